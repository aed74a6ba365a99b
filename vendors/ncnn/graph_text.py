"""A layer's parameters with their defaults, and the text of a graph as ncnn2int8 writes it."""

from __future__ import annotations

import numpy as np
from failure import VendorError
from layer_table import FEATURE_MASK, LAYERS, NOT_STORED, Parameter
from param_file import MAGIC, SHAPE_HINTS, Layer, Network

REPORT_HINT = "cut that part off the ONNX (finish it on the host), or use PRECISION=fp32"


def require_known_layers(network: Network, keep_unwritten: bool) -> None:
    """VendorError for a layer that the writer would store wrongly.

    keep_unwritten: False: also refuse parameters that ncnn2int8 drops; True: they will be kept, so let them pass.
    """
    for layer in network.layers:
        if layer.type not in LAYERS:
            raise VendorError(
                f"layer {layer.name} is of a type that the int8 writer does not know: {layer.type}", REPORT_HINT
            )
        lost = unwritten_parameters(layer)
        if lost and not keep_unwritten:
            raise VendorError(
                f"ncnn2int8 does not write parameter {lost[0]} of layer {layer.name} ({layer.type}): "
                "its int8 file would be another network",
                "give --keep-parameters to write the layer as it is",
            )


def unwritten_parameters(layer: Layer) -> list[int]:
    """Numbers of the parameters that ncnn2int8 drops, although ncnn reads them."""
    known = {parameter.number for parameter in LAYERS[layer.type]} | NOT_STORED.get(layer.type, set())
    return sorted(set(layer.parameters) - known - {FEATURE_MASK, SHAPE_HINTS})


def effective_parameters(layer: Layer) -> dict[int, object]:
    """{number: value}, defaults filled in; integers as int, floats as float32, arrays as lists."""
    found: dict[int, object] = {}
    given = layer.parameters
    for parameter in LAYERS[layer.type]:
        value = given.get(parameter.number)
        found[parameter.number] = _effective(layer, parameter, value, found)
    return found


def _effective(layer: Layer, parameter: Parameter, value: object, found: dict[int, object]) -> object:
    if parameter.kind in ("ints", "floats"):
        values = [] if value is None else value
        if not isinstance(values, list) or (parameter.kind == "ints" and any(not isinstance(v, int) for v in values)):
            raise VendorError(f"layer {layer.name}: parameter {parameter.number} is no array of {parameter.kind}", "")
        return [np.float32(v) for v in values] if parameter.kind == "floats" else values
    if parameter.kind == "text":
        return value if isinstance(value, str) else ""
    if parameter.kind == "float":
        return np.float32(parameter.default if value is None or isinstance(value, list | str) else value)
    if parameter.kind == "scale":  # MultiHeadAttention: 1 / sqrt(embedding of one head), an integer division first
        default = np.float32(1) / np.sqrt(np.float32(int(found[0]) // int(found[1])))
        return default if value is None else np.float32(value)
    if isinstance(value, int):
        return value
    if parameter.like is not None:
        return found[parameter.like]
    return parameter.default if parameter.kind == "int" else 0


def _word(parameter: Parameter, found: dict[int, object]) -> str:
    """What the writer prints for one parameter: " id=value", or nothing where the default says the same."""
    number, value = parameter.number, found[parameter.number]
    if parameter.kind in ("ints", "floats"):
        if not value:
            return ""
        items = (str(v) if parameter.kind == "ints" else f"{v:e}" for v in value)
        return f" -{23300 + number}={len(value)}," + ",".join(items)
    if parameter.kind == "text":
        return f' {number}="{value}"' if value else ""
    if parameter.kind == "float":
        return f" {number}={value:e}" if value != np.float32(parameter.default) else ""
    if parameter.kind == "scale":
        return f" {number}={value:e}"
    if parameter.kind == "axes":  # Reduction: the mark of a repaired meaning goes with the axes (parameter 3)
        return f" {number}=1" if found[3] else ""
    if parameter.kind == "axis":  # Softmax: likewise with the axis (parameter 0)
        return f" {number}=1" if found[0] else ""
    default = parameter.default if parameter.like is None else 0 if parameter.unless_zero else found[parameter.like]
    return f" {number}={value}" if value != default else ""


def _shape_hints(layer: Layer) -> str:
    hints = layer.parameters.get(SHAPE_HINTS)
    if not hints or not layer.tops:
        return ""
    step = len(hints) // len(layer.tops)
    shapes = [hints[i * step : (i + 1) * step] for i in range(len(layer.tops))]
    if step != 4 or any(shape[0] == 4 for shape in shapes):
        raise VendorError(f"layer {layer.name} announces the shape of a four-dimensional blob", REPORT_HINT)
    if any(shape[0] == 0 for shape in shapes):
        return ""
    # A blob of fewer dimensions has size 1 in the others, whatever the hint says (src/net.cpp, load_shape_hints).
    full = [[shape[0], shape[1], shape[2] if shape[0] > 1 else 1, shape[3] if shape[0] > 2 else 1] for shape in shapes]
    return f" -23330={4 * len(shapes)}," + ",".join(str(v) for shape in full for v in shape)


def _kept(layer: Layer) -> str:
    """Parameters that ncnn2int8 drops, in the file's own form."""
    words = ""
    for number in unwritten_parameters(layer):
        value = layer.parameters[number]
        if isinstance(value, list):
            items = ",".join(str(v) if isinstance(v, int) else f"{v:e}" for v in value)
            words += f" -{23300 + number}={len(value)},{items}"
        elif isinstance(value, str):
            words += f' {number}="{value}"'
        else:
            words += f" {number}={value}" if isinstance(value, int) else f" {number}={value:e}"
    return words


def layer_line(layer: Layer, keep_unwritten: bool = False) -> str:
    """One line of the written graph, without its end."""
    found = effective_parameters(layer)
    line = f"{layer.type:<24s} {layer.name:<24s} {len(layer.bottoms)} {len(layer.tops)}"
    line += "".join(f" {name}" for name in (*layer.bottoms, *layer.tops))
    line += _shape_hints(layer) + "".join(_word(parameter, found) for parameter in LAYERS[layer.type])
    return line + (_kept(layer) if keep_unwritten else "")


def graph_text(network: Network, keep_unwritten: bool = False) -> str:
    """The whole .param as ncnn2int8 writes it."""
    head = f"{MAGIC}\n{len(network.layers)} {len(network.blob_names())}\n"
    return head + "".join(layer_line(layer, keep_unwritten) + "\n" for layer in network.layers)
