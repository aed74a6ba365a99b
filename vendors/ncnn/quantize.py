"""Write ncnn's int8 model from a float model and a table of scales, as upstream's ncnn2int8 does.

    python quantize.py in.param in.bin table out.param out.bin [--keep-parameters]

The files are those of `ncnn2int8 in.param in.bin out.param out.bin table` of the same release, byte for byte, for
any float model that pnnx writes (on an x86 with F16C, where the rounding of the float16 weights is the processor's).
--keep-parameters: keep what ncnn2int8 forgets to write (see layer_table.UNWRITTEN) instead of refusing such a model.

Facts: upstream tools/quantize/ncnn2int8.cpp (which layers, which scales, fusing of requantisation), tools/modelwriter.h
(form of the files), ncnn release 20261020, src/layer/x86/quantize_x86.cpp (rounding).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
from atomic_files import scratch_folder
from failure import VendorError, run
from graph_text import effective_parameters, graph_text, require_known_layers
from matrix_layers import QUANTIZED_WITHOUT_TABLE, quantize_matrix_layer
from param_file import Layer, Network, read_param
from rounding import to_int8
from scale_table import ScaleTable, read_table
from weight_file import plain_bytes, read_bin, tagged_bytes, weight_specification

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
TABLE_LAYERS = (*CONVOLUTIONS, "InnerProduct")  # the layers that a table of scales makes int8
INT8_TERM = {"Convolution": 8, "ConvolutionDepthWise": 8, "InnerProduct": 8}
REQUANTIZE = 100  # added to a convolution's int8 term when it hands int8 to the next one


def load_network(param: Path, weights: Path, keep_unwritten: bool = False) -> Network:
    """Read and check a float ncnn model. Raises VendorError when it is damaged, int8 already, or of unknown layers."""
    network = read_param(param)
    require_known_layers(network, keep_unwritten)
    values = [effective_parameters(layer) for layer in network.layers]
    for layer, value in zip(network.layers, values, strict=True):
        if layer.type in INT8_TERM and value[INT8_TERM[layer.type]]:
            raise VendorError(f"{param}: layer {layer.name} is int8 already", "give the float model that pnnx wrote")
    read_bin(weights, network, values)
    return network


def scale_count(layer: Layer) -> int:
    """How many weight scales a layer has: its output channels, or its groups when it is a depthwise convolution."""
    value = effective_parameters(layer)
    return int(value[7] if layer.type == "ConvolutionDepthWise" else value[0])


def quantizable_layers(network: Network) -> list[Layer]:
    """The layers that a table of scales can make int8, in file order."""
    found = []
    for layer in network.layers:
        if layer.type in TABLE_LAYERS and "weight" in layer.weights:
            found.append(layer)
    return found


def check_table(network: Network, table: ScaleTable) -> None:
    """VendorError when the table names a layer that is not there, or does not give a layer all its scales."""
    layers = {layer.name: layer for layer in quantizable_layers(network)}
    hint = "calibrate again with the .param of the same conversion"
    for name in (*table.activations, *table.weights):
        if name not in layers:
            raise VendorError(f"the table names {name}, and the network has no such layer to quantise", hint)
    for name in table.activations:
        if name not in table.weights:
            raise VendorError(f"the table gives {name} an activation scale and no weight scales", hint)
    for name, scales in table.weights.items():
        expected = scale_count(layers[name])
        if len(scales) != expected:
            raise VendorError(f"the table gives {name} {len(scales)} weight scales, and it needs {expected}", hint)


def quantize_network(network: Network, table: ScaleTable, float_layers: Collection[str] = ()) -> Network:
    """The int8 network; `network` itself is not changed.

    table: scales of the convolutions and inner products; those without scales stay float.
    float_layers: names of layers that ncnn2int8 would quantise without a table (matrix products, recurrent layers)
        and that shall stay float. Empty: as ncnn2int8 does.
    Weights become layer.weights["weight"] of int8, and scales are added as "weight_scales", "bottom_scale",
    "top_scale" in the order in which they are stored.
    """
    check_table(network, table)
    result = Network([_copy(layer) for layer in network.layers])
    for layer in result.layers:
        if layer.type in TABLE_LAYERS and layer.name in table.activations:
            scales = table.weights[layer.name]
            rows = layer.weights["weight"].reshape(len(scales), -1)
            layer.weights["weight"] = to_int8(rows, scales).reshape(-1)
            layer.weights["weight_scales"] = scales
            layer.weights["bottom_scale"] = np.array([table.activations[layer.name]], np.float32)
            layer.parameters[INT8_TERM[layer.type]] = 1 if layer.type == "ConvolutionDepthWise" else 2
        elif layer.type in QUANTIZED_WITHOUT_TABLE and layer.name not in float_layers:
            quantize_matrix_layer(layer)
    _fuse_requantization(result)
    return result


def _copy(layer: Layer) -> Layer:
    return Layer(layer.type, layer.name, layer.bottoms, layer.tops, dict(layer.parameters), dict(layer.weights))


def _is_int8(layer: Layer) -> bool:
    return layer.type in CONVOLUTIONS and "bottom_scale" in layer.weights


def _fuse_requantization(network: Network) -> None:
    """Let an int8 convolution hand int8 to the int8 convolutions that alone read its output.

    As ncnn2int8: first pairs where one convolution reads the blob directly, then outputs that a Split hands to int8
    convolutions only; there the first reader's scale is the one that is used.
    """
    readers: dict[str, list[tuple[int, Layer]]] = {}
    for index, layer in enumerate(network.layers):
        for name in layer.bottoms:
            readers.setdefault(name, []).append((index, layer))

    def first_reader(blob: str, after: int, types: tuple[str, ...]) -> tuple[int, Layer] | None:
        for index, layer in readers.get(blob, ()):
            if index > after and layer.type in types and len(layer.bottoms) == 1:
                return index, layer
        return None

    def fuse(first: Layer, second: Layer) -> None:
        if _is_int8(first) and _is_int8(second):
            first.parameters[8] += REQUANTIZE
            first.weights["top_scale"] = second.weights["bottom_scale"]

    convolutions = [(index, layer) for index, layer in enumerate(network.layers) if layer.type in CONVOLUTIONS]
    for index, layer in convolutions:
        found = first_reader(layer.tops[0], index, CONVOLUTIONS)
        if found:
            fuse(layer, found[1])
    for index, layer in convolutions:
        split = first_reader(layer.tops[0], index, ("Split",))
        if not split:
            continue
        targets = [first_reader(blob, split[0], CONVOLUTIONS) for blob in split[1].tops]
        if all(target and _is_int8(target[1]) for target in targets):
            fuse(layer, readers[split[1].tops[0]][-1][1])


_SCALES = ("weight_scales", "bottom_scale", "top_scale")


def layer_bytes(layer: Layer) -> bytes:
    """One layer's part of the .bin as ncnn2int8 writes it."""
    pieces: list[bytes] = []
    for name, tagged, _ in weight_specification(layer, effective_parameters(layer)):
        # MemoryData is written plain, however it was stored.
        values = layer.weights[name]
        pieces.append(tagged_bytes(values) if tagged and layer.type != "MemoryData" else plain_bytes(values))
    scales = [layer.weights[name] for name in _SCALES if name in layer.weights]
    scales += [values for name, values in layer.weights.items() if name.startswith("scales_")]
    return b"".join(pieces + [plain_bytes(values) for values in scales])


def write_network(network: Network, param: Path, weights: Path, keep_unwritten: bool = False) -> None:
    """Write both files under temporary names, then rename them; nothing is left behind when that fails."""
    text = graph_text(network, keep_unwritten)
    data = b"".join(layer_bytes(layer) for layer in network.layers)
    for path in (param, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(param.parent) as first, scratch_folder(weights.parent) as second:
        (first / "param").write_text(text, encoding="utf-8")
        (second / "bin").write_bytes(data)
        (second / "bin").replace(weights)
        (first / "param").replace(param)


def main(arguments: list[str]) -> None:
    keep = "--keep-parameters" in arguments
    paths = [Path(argument) for argument in arguments if argument != "--keep-parameters"]
    if len(paths) != 5 or any(argument.startswith("-") for argument in arguments if argument != "--keep-parameters"):
        raise VendorError(
            f"five files are needed, not {len(paths)}", "quantize.py in.param in.bin table out.param out.bin"
        )
    network = load_network(paths[0], paths[1], keep)
    quantized = quantize_network(network, read_table(paths[2]))
    write_network(quantized, paths[3], paths[4], keep)
    int8 = sum(any(w.dtype == np.int8 for w in layer.weights.values()) for layer in quantized.layers)
    print(f"{paths[3]}, {paths[4]}: {int8} of {len(quantized.layers)} layers are int8", file=sys.stderr)


if __name__ == "__main__":
    run(main)
