"""Bring the operator set into the range that the chip's compiler reads, with onnx's own version converter.

The converter knows few ways down (none for Clip from 13 to 12, where only bfloat16 was added). Where it gives up, the
graph is relabelled if it is valid as it stands at the lower opset; that it computes the same is proven like any pass.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import version_converter

from common.basics.errors import UserError

ORDER = 52  # after simplify: the shape arithmetic that knows no way down is gone by then
FIRST_RESIZE_WITH_MODES = 11


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """To the nearer end of the chip's opset range; raises UserError when an operator cannot be converted."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    lowest, highest = chip.opset
    target = min(max(opset, lowest), highest)
    if target == opset:
        return model, []
    try:
        converted = version_converter.convert_version(model, target)
    except Exception as error:  # the converter raises RuntimeError and its own kinds, from C++
        if (relabelled := _relabel(model, target)) is not None:
            return relabelled, [f"opset {opset} -> {target}, by the number alone: its operators have one form in both"]
        reason = (str(error).strip().splitlines() or ["unknown"])[0].split(": ", 2)[-1]
        raise UserError(
            f"opset {opset} cannot become opset {target}: {reason}", f"export the network again with opset {target}"
        ) from None
    if opset < FIRST_RESIZE_WITH_MODES <= target:
        _restore_sampling(converted)
    _restore_names(model, converted)
    return converted, [f"opset {opset} -> {target}"]


def _restore_names(model: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """The converter keeps the order of nodes, adds Constants, and loses the name of a node that it rewrites."""
    before, after = ([node for node in m.graph.node if node.op_type != "Constant"] for m in (model, converted))
    if len(before) == len(after):
        for old, new in zip(before, after, strict=True):
            new.name = new.name or old.name


def _restore_sampling(model: onnx.ModelProto) -> None:
    """Say on every Resize what it meant before opset 11: x_original = x_resized / scale, rounded down for nearest.

    (Upsample-9 and Resize-10 in onnx's Changelog.md; the converter leaves Resize-11's own defaults, half_pixel.)
    """
    for node in model.graph.node:
        written = {attribute.name for attribute in node.attribute}
        if node.op_type == "Resize" and "coordinate_transformation_mode" not in written:
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in modes.items())


def _relabel(model: onnx.ModelProto, target: int) -> onnx.ModelProto | None:
    """The same nodes under another opset number; None where a node is not valid there."""
    relabelled = onnx.ModelProto()
    relabelled.CopyFrom(model)
    for entry in relabelled.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = target
    try:
        onnx.checker.check_model(relabelled, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return relabelled
