"""Remove Identity, and Dropout, which does nothing at inference."""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 45
TRAINING_MODE_INPUT = 2  # Dropout-12 takes data, ratio, training_mode; before, inference was its only mode


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Readers read the node's input instead. Left alone: Dropout in training mode or with a used mask, and a node
    that joins an output of the graph with an input, a weight or another output.
    """
    removed: dict[str, int] = {}
    for node in list(model.graph.node):
        if node.op_type in ("Identity", "Dropout") and _does_nothing(node, model) and _bypass(node, model):
            model.graph.node.remove(node)
            removed[node.op_type] = removed.get(node.op_type, 0) + 1
    return model, [f"{count} {operator} removed" for operator, count in removed.items()]


def _does_nothing(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    read = {name for other in model.graph.node for name in other.input} | {value.name for value in model.graph.output}
    mask_is_used = any(name in read for name in node.output[1:])
    training = len(node.input) > TRAINING_MODE_INPUT and node.input[TRAINING_MODE_INPUT]
    return not mask_is_used and not training and not _has_subgraphs(model)


def _has_subgraphs(model: onnx.ModelProto) -> bool:
    """Names may be read inside them, unseen here."""
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return any(attribute.type in kinds for node in model.graph.node for attribute in node.attribute)


def _bypass(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Reconnect everything around `node`; False, and nothing done, where an output's name could not be kept."""
    source, target = node.input[0], node.output[0]
    outputs = {value.name for value in model.graph.output}
    if target not in outputs:
        _rename_reads(model, target, source)
        return True
    producer = next((other for other in model.graph.node if source in other.output), None)
    if producer is None or source in outputs:
        return False
    # The graph's output keeps its name: the producer takes it over.
    producer.output[list(producer.output).index(source)] = target
    _rename_reads(model, source, target)
    return True


def _rename_reads(model: onnx.ModelProto, old: str, new: str) -> None:
    for other in model.graph.node:
        for index, name in enumerate(other.input):
            if name == old:
                other.input[index] = new
