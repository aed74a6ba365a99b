"""Drop BatchNormalization's `spatial=0` where its statistics are per channel, and leftovers of older opsets.

Up to opset 8, spatial=0 meant one mean and variance for every activation, so scale, B, mean and var had the shape of a
whole sample, (C, H, W) (onnx Changelog.md, BatchNormalization-7). MXNet's exporter wrote spatial=0 with per-channel
statistics, shape (C,): by those the node is the ordinary one, and onnxruntime refuses the contradiction.
"""

from __future__ import annotations

from typing import Any

import onnx

from common.basics.errors import UserError

ORDER = 20
LEFTOVERS = {"consumed_inputs": 6, "is_test": 7}  # the opset that removed the attribute


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Raises UserError, with the node's name, where the statistics really are per activation or not known."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    spatial = leftovers = 0
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        for attribute in list(node.attribute):
            if attribute.name == "spatial":
                if attribute.i == 0:
                    _check_per_channel(node, shapes)
                # spatial=1 was the default, and from opset 9 on the only meaning left.
                node.attribute.remove(attribute)
                spatial += 1
            elif opset >= LEFTOVERS.get(attribute.name, opset + 1):
                node.attribute.remove(attribute)
                leftovers += 1
    changes = []
    if spatial:
        changes.append(f"{spatial} BatchNormalization nodes lost `spatial`, whose statistics are per channel anyway")
    if leftovers:
        changes.append(f"{leftovers} attributes of an older BatchNormalization went")
    return model, changes


def _check_per_channel(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> None:
    statistics = [shapes.get(name) for name in node.input[1:5]]
    if any(shape is None or len(shape) != 1 or shape != statistics[0] for shape in statistics):
        raise UserError(
            f"BatchNormalization node '{node.name or node.output[0]}' has spatial=0 and statistics of shape "
            f"{statistics[0]}: one value for every activation, which no compiler here takes",
            "export the network again, with per-channel statistics",
        )
