"""Write fixed sizes on the outputs, worked out from the inputs' sizes.

An output may still be declared as `batch`x17x64x48 although the input is fixed. Shapes noted inside the graph are
dropped: stale ones mislead shape inference, and it finds them again.
"""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 30


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Only where an output is not fixed yet; what inference cannot find stays open, and preflight names it."""
    if all(_is_static(value) for value in model.graph.output):
        return model, []
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    changes = []
    for value, found in zip(model.graph.output, inferred.graph.output, strict=True):
        if not _is_static(value) and _is_static(found):
            sizes = [dim.dim_value for dim in found.type.tensor_type.shape.dim]
            value.type.tensor_type.shape.CopyFrom(found.type.tensor_type.shape)
            changes.append(f"output '{value.name}' is {'x'.join(map(str, sizes))}")
    if changes:
        del model.graph.value_info[:]
    return model, changes


def _is_static(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim)
