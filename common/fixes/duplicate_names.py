"""Take away node names that occur twice, which onnxruntime refuses; node_names gives new ones at the end."""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 5


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """The first node of a name keeps it. A node's name is a label: what it computes hangs on its tensors' names."""
    seen: set[str] = set()
    cleared = 0
    for node in model.graph.node:
        if node.name and node.name in seen:
            node.ClearField("name")
            cleared += 1
        seen.add(node.name)
    return model, [f"{cleared} nodes shared another one's name"] if cleared else []
