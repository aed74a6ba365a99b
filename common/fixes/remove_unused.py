"""Remove nodes and weights that no output needs, and shapes noted for tensors that no node makes."""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 70


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Walk back from the outputs; what is not met, goes. Nodes with sub-graphs count the names used inside."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_names_read(node))
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    lost_nodes, lost_weights = len(model.graph.node) - len(kept), len(model.graph.initializer) - len(weights)
    changes = []
    if lost_nodes:
        changes.append(f"{lost_nodes} unused nodes")
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del model.graph.node[:]
        model.graph.node.extend(kept)
    if lost_weights:
        changes.append(f"{lost_weights} unused weights")
        weights = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(weights)
    made = {name for node in model.graph.node for name in node.output}
    notes = [value for value in model.graph.value_info if value.name in made]
    if lost_notes := len(model.graph.value_info) - len(notes):
        changes.append(f"{lost_notes} shapes of tensors that are no more")
        notes = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in notes]
        del model.graph.value_info[:]
        model.graph.value_info.extend(notes)
    return model, changes


def _names_read(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                names |= _names_read(inner)
            names.update(value.name for value in graph.output)
    return names
