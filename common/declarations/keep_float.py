"""KEEP_FLOAT=: which nodes of the fixed graph stay float, from the names or the `last:N` that a person wrote.

KEEP_FLOAT=Conv_12,heatmaps     nodes by their names, or by the names of tensors that they make
KEEP_FLOAT=last:3               the last three layers with weights, and all that follows them
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.basics.errors import USAGE_EXIT, UserError

if TYPE_CHECKING:
    import onnx

LAST = "last:"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def resolve(text: str, model: onnx.ModelProto, where: str) -> list[dict[str, Any]]:
    """The nodes that `text` names: [{"node": name, "operator", "outputs": [tensor names]}], in the graph's order.

    text: comma-separated node names, output-tensor names and `last:N`; "" names none. model: the fixed graph, whose
    nodes have unique names. where: names it in messages. Raises UserError (exit 2) for a name that the graph does not
    have, with the nearest ones, and for an N that is no number of its layers.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        return []
    nodes = list(model.graph.node)
    kept: set[int] = set()
    for word in words:
        kept |= _last(model, word, where) if word.startswith(LAST) else {_named(nodes, word, where)}
    return [
        {
            "node": nodes[index].name,
            "operator": nodes[index].op_type,
            "outputs": [name for name in nodes[index].output if name],
        }
        for index in sorted(kept)
    ]


def layers_with_weights(model: onnx.ModelProto) -> list[int]:
    """The indices of the nodes that multiply by a constant: convolutions, Gemm, MatMul; in the graph's order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    return [
        index
        for index, node in enumerate(model.graph.node)
        if node.op_type in WEIGHTED and any(name in constants for name in node.input[:2])
    ]


def from_the_end(model: onnx.ModelProto) -> dict[int, int]:
    """For each layer with weights, how many of them a value passes from it to an output, at most; the last has 1.

    A layer has a larger number than all that follow it, so to count by it is to go backwards in topological order,
    whatever order the file lists independent branches in. {node index: number}
    """
    weighted = set(layers_with_weights(model))
    longest: dict[str, int] = {}  # tensor -> layers with weights between it and an output
    found = {}
    for index in range(len(model.graph.node) - 1, -1, -1):  # ONNX lists nodes in topological order
        node = model.graph.node[index]
        passed = max((longest.get(name, 0) for name in node.output), default=0) + (index in weighted)
        if index in weighted:
            found[index] = passed
        for name in node.input:
            longest[name] = max(longest.get(name, 0), passed)
    return found


def _last(model: onnx.ModelProto, word: str, where: str) -> set[int]:
    """The nodes of `last:N`: the layers nearest to the outputs, among equals the later ones, and all their readers."""
    distances = from_the_end(model)
    number = word.removeprefix(LAST)
    if not number.isdecimal() or not 1 <= int(number) <= len(distances):
        raise UserError(
            f"{where}: KEEP_FLOAT={word}: the network has {len(distances)} layers with weights",
            f"KEEP_FLOAT={LAST}N, with N from 1 to {len(distances)}" if distances else "leave KEEP_FLOAT= out",
            USAGE_EXIT,
        )
    ranked = sorted(distances, key=lambda index: (distances[index], -index))
    kept = set(ranked[: int(number)])
    made: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if index in kept or not made.isdisjoint(node.input):
            kept.add(index)
            made |= {name for name in node.output if name}
    return kept


def _named(nodes: list[onnx.NodeProto], word: str, where: str) -> int:
    """The node of this name, else the one that makes the tensor of this name."""
    by_name = {node.name: index for index, node in enumerate(nodes) if node.name}
    by_output = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    for known in (by_name, by_output):
        if word in known:
            return known[word]
    import difflib  # here: only for a name that is wrong

    names = list(dict.fromkeys([*by_name, *by_output]))
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    raise UserError(
        f"{where}: KEEP_FLOAT={word}: the fixed graph has no node and no tensor of that name",
        f"did you mean {' or '.join(near)}?" if near else f"nodes or tensors of {names[0]} ... {names[-1]}; or {LAST}N",
        USAGE_EXIT,
    )
