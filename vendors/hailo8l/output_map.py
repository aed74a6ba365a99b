"""Which layer of Hailo's network gives which ONNX output: by the names that it keeps, then by shape.

Hailo's layers have names of their own (net/conv42), in an order of their own; each remembers the ONNX nodes that it was
made of (original_names). On the device an output bears its layer's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from failure import VendorError


@dataclass(frozen=True)
class EndPoint:
    """An output of the network: its ONNX name and shape [1, C, H, W], the node that ends there and its tensor."""

    output: str
    shape: tuple[int, ...]
    node: str
    tensor: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}

    @staticmethod
    def from_json(entry: dict[str, Any]) -> EndPoint:
        """Raises KeyError or TypeError on anything that to_json did not write."""
        return EndPoint(entry["output"], tuple(entry["shape"]), entry["node"], entry["tensor"])


@dataclass(frozen=True)
class LayerOutput:
    """An output of Hailo's network. shape: without the batch, height, width, channels; None where it is not told."""

    layer: str
    names: tuple[str, ...]  # of ONNX nodes or tensors
    shape: tuple[int, ...] | None


def outputs_of(hn: dict[str, Any]) -> list[LayerOutput]:
    """The outputs in the order in which the emulator gives them, of get_hn_dict()'s content.

    `output_layers_order` names the layers before the output layers; both kinds of name are taken.
    Raises VendorError, with what was found, when they are not told.
    """
    layers = hn.get("layers") or {}
    wrappers = {
        name: str(source)
        for name, layer in layers.items()
        if layer.get("type") == "output_layer"
        for source in layer.get("input", [])[:1]
    }
    order = (hn.get("net_params") or {}).get("output_layers_order") or list(wrappers)
    found = []
    for name in order:
        if name not in layers:
            continue
        source = wrappers.get(name, name)
        related = [source, *(wrapper for wrapper, inner in wrappers.items() if inner == source)]
        names = [original for one in related for original in layers.get(one, {}).get("original_names") or []]
        shapes = (layers.get(source) or layers[name]).get("output_shapes") or []
        shape = tuple(int(size) for size in shapes[0][1:]) if shapes and shapes[0] else None
        found.append(LayerOutput(source, tuple(map(str, names)), shape))
    if not found:
        raise VendorError(
            f"Hailo's network tells no outputs: output_layers_order is {order}, its layers are {', '.join(layers)}",
            "README.md, Unproven: get_hn_dict()",
        )
    return found


def output_layer_names(hn: dict[str, Any]) -> list[str]:
    """The output layers' own names without the network's: ["output_layer1"], as a model script writes them."""
    kinds = {name: layer.get("type") for name, layer in (hn.get("layers") or {}).items()}
    return [name.rpartition("/")[2] for name, kind in kinds.items() if kind == "output_layer"]


def assign(outputs: Sequence[LayerOutput], ends: Sequence[EndPoint]) -> list[EndPoint]:
    """For each of Hailo's outputs, in their order, the ONNX output that it is.

    Raises VendorError, with all that was found, unless each is one and no other.
    """
    if len(outputs) != len(ends):
        raise _mismatch(f"{len(outputs)} outputs instead of {len(ends)}", outputs, ends)
    found: dict[int, EndPoint] = {}
    left = list(ends)
    for index, output in enumerate(outputs):
        matching = [end for end in left if {end.node, end.tensor, end.output} & set(output.names)]
        if len(matching) == 1:
            found[index] = matching[0]
            left.remove(matching[0])
    for index, output in enumerate(outputs):
        if index in found:
            continue
        matching = [end for end in left if same_shape(output.shape, end.shape)]
        if len(matching) != 1:
            raise _mismatch(f"nothing tells which output {output.layer} is", outputs, ends)
        found[index] = matching[0]
        left.remove(matching[0])
    for index, output in enumerate(outputs):
        if output.shape is not None and not same_shape(output.shape, found[index].shape):
            raise _mismatch(f"{output.layer} is of shape {list(output.shape)}", outputs, ends)
    return [found[index] for index in range(len(outputs))]


def same_shape(hailo: tuple[int, ...] | None, onnx: tuple[int, ...]) -> bool:
    """Whether height, width, channels are those of an ONNX shape [1, C, H, W] (or features those of [1, F])."""
    if hailo is None:
        return False
    if len(onnx) == 4:
        return tuple(hailo) == (*onnx[2:], onnx[1])
    return int(np.prod(hailo)) == int(np.prod(onnx[1:]))


def to_onnx(array: np.ndarray, end: EndPoint) -> np.ndarray:
    """[N, H, W, C] (or [N, F]) as Hailo gives it -> float32 [N, C, H, W] (or the ONNX shape). VendorError otherwise."""
    array = np.asarray(array)
    if array.ndim < 2 or not same_shape(array.shape[1:], end.shape):
        raise VendorError(
            f"the output {end.output} came back as {list(array.shape)}, and ONNX has {list(end.shape)}",
            "README.md, Unproven: layout of the emulator's outputs",
        )
    if len(end.shape) == 4:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array.reshape(len(array), *end.shape[1:]), np.float32)


def _mismatch(problem: str, outputs: Sequence[LayerOutput], ends: Sequence[EndPoint]) -> VendorError:
    theirs = "; ".join(f"{one.layer} {list(one.shape or [])} from {', '.join(one.names) or '?'}" for one in outputs)
    ours = "; ".join(f"{end.output} {list(end.shape)} from {end.node}" for end in ends)
    return VendorError(
        f"Hailo's outputs are not the network's: {problem}. Hailo has {theirs}. ONNX has {ours}",
        "README.md, Unproven: original_names",
    )
