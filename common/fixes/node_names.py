"""Give every node a unique, stable name, so that messages, logs and calibration tables can point at it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx

ORDER = 80


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Names that are there and unique stay; others become <operator>_<n>, counted per operator in graph order."""
    counts = Counter(node.name for node in model.graph.node)
    taken = {name for name, count in counts.items() if name and count == 1}
    numbers: Counter[str] = Counter()
    renamed = 0
    for node in model.graph.node:
        index = numbers[node.op_type]
        numbers[node.op_type] += 1
        if node.name in taken:
            continue
        name = f"{node.op_type}_{index}"
        while name in taken:
            name += "_"
        taken.add(name)
        node.name = name
        renamed += 1
    return model, [f"{renamed} nodes were named"] if renamed else []
