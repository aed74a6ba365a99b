"""`make inspect ONNX=file [NODES=1] [JSON=1]`: what is in a graph, and which chips would take it.

    python -m common.inspect_onnx --onnx FILE [--nodes 1] [--json 1]

Nothing is built and nothing is written. What a build would find out later is said here in seconds: the likely task, a
normalisation that the graph holds itself, where a detector is cut, and each chip's preflight with its first reasons.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import to_json
from common.basics.wording import listed, shape_text, size_in_words
from common.graphs.chip_verdicts import Verdict, graph_for_chips, verdicts
from common.graphs.likely_task import Likeness, known_shapes, likely_task
from common.graphs.onnx_graph import (
    GraphTensor,
    graph_inputs,
    graph_outputs,
    load_onnx,
    operator_counts,
    opset_of,
    tensors,
)
from common.graphs.opening import opening_of

MOST_REASONS = 3
WIDTH = 15  # of the first column


def describe(path: Path) -> dict[str, Any]:
    """All that is known about an ONNX file, as plain values: what `make inspect` prints, and JSON=1 as it stands.

    Raises UserError when it is no sound ONNX file.
    """
    model = load_onnx(path)
    described: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "ir_version": model.ir_version,
        "opset": opset_of(model),
        "exporter": " ".join(filter(None, (model.producer_name, model.producer_version))) or None,
        "inputs": [_tensor(tensor) for tensor in graph_inputs(model)],
        "outputs": [_tensor(tensor) for tensor in graph_outputs(model)],
        "nodes": len(model.graph.node),
        "operators": operator_counts(model),
        "parameters": sum(_elements(tensor) for tensor in tensors(model)),
        "opening": opening_of(model).words,
        "likely_task": None,
        "why": None,
        "obstacle": None,
        "cut": None,
        "warnings": warnings_of(model, path),
        "chips": [],
    }
    try:
        shapes = known_shapes(model, str(path))
    except UserError as error:
        return described | {"why": error.message, "obstacle": error.hint}
    likeness = likely_task(shapes)
    return described | {
        "likely_task": likeness.task,
        "why": likeness.why,
        "obstacle": likeness.obstacle[1] if likeness.obstacle else None,
        "cut": _cut(shapes.model, likeness),
        "chips": [_chip(verdict) for verdict in verdicts(graph_for_chips(shapes, likeness))],
    }


def warnings_of(model: onnx.ModelProto, path: Path) -> list[str]:
    """What is unusual about a graph, and trouble for a chip or for whoever copies the file."""
    found = []
    for kind, values in (("input", graph_inputs(model)), ("output", graph_outputs(model))):
        for tensor in values:
            if tensor.shape is None:
                found.append(f"{kind} {tensor.name} has no shape")
            elif free := [f"axis {axis} ('{size}')" for axis, size in enumerate(tensor.shape) if isinstance(size, str)]:
                found.append(f"{kind} {tensor.name} is not fixed: {', '.join(free)}; a chip's compiler needs numbers")
            if tensor.dtype != "float32":
                found.append(f"{kind} {tensor.name} is {tensor.dtype}, and float32 is needed")
    doubles = [tensor.name for tensor in tensors(model) if tensor.data_type == TensorProto.DOUBLE]
    if doubles:
        found.append(f"{len(doubles)} tensors are double (float64), which no chip has: {listed(doubles, 3)}")
    halves = [t.name for t in tensors(model) if t.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)]
    if halves:
        found.append(f"{len(halves)} tensors are half precision: give the float32 network, a chip's build narrows it")
    raw = onnx.load_model(path, load_external_data=False)
    outside = [one for one in tensors(raw) if one.data_location == TensorProto.EXTERNAL]
    if outside:
        files = sorted({entry.value for one in outside for entry in one.external_data if entry.key == "location"})
        found.append(f"{len(outside)} weights lie in {', '.join(files)} beside it: copy both")
    weights = {tensor.name for tensor in model.graph.initializer}
    if count := sum(value.name in weights for value in model.graph.input):
        found.append(f"{count} weights are listed among the inputs, as old exporters do; the fix step takes them out")
    quantised = [node.op_type for node in model.graph.node if "Quantize" in node.op_type or "QLinear" in node.op_type]
    if quantised:
        found.append(f"it is quantised already ({len(quantised)} nodes): give the float network")
    return found


def _elements(tensor: TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16) else 0


def _tensor(tensor: GraphTensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": None if tensor.shape is None else list(tensor.shape), "dtype": tensor.dtype}


def _cut(model: onnx.ModelProto, likeness: Likeness) -> dict[str, Any] | None:
    """Where a detector's network ends, and how many nodes lie behind that; None where nothing is cut."""
    own = {tensor.name for tensor in graph_outputs(model)}
    if not likeness.cut or set(likeness.cut) == own:
        return None
    kept = _needed(model, set(likeness.cut))
    cut = [{"tensor": name, "shape": list(shape)} for name, shape in likeness.cut.items()]
    return {"tensors": cut, "nodes_behind": len(model.graph.node) - kept}


def _needed(model: onnx.ModelProto, names: set[str]) -> int:
    """How many nodes these tensors are made by."""
    makers = {name: index for index, node in enumerate(model.graph.node) for name in node.output}
    waiting, seen = [makers[name] for name in names if name in makers], set()
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            waiting += [makers[name] for name in model.graph.node[index].input if name in makers]
    return len(seen)


def _chip(verdict: Verdict) -> dict[str, Any]:
    return {"chip": verdict.chip, "takes_it": verdict.takes_it, "reasons": verdict.reasons()}


def nodes_of(path: Path) -> list[tuple[str, ...]]:
    """One row a node: its number, name, operator, the tensors that it makes with their shapes where these are known."""
    model = load_onnx(path)
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # names alone are what was asked for
        model = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    rows = []
    for number, node in enumerate(model.graph.node):
        made = []
        for name in node.output:
            sizes = [one.dim_value or one.dim_param or "?" for one in known[name].type.tensor_type.shape.dim] \
                if name in known else []  # fmt: skip
            made.append(f"{name} {shape_text(sizes)}" if sizes else name)
        rows.append((str(number), node.name or "-", node.op_type, ", ".join(made)))
    return rows


def _print_field(title: str, lines: list[str]) -> None:
    for index, line in enumerate(lines):
        print(f"{title if index == 0 else '':{WIDTH}}{line}".rstrip())


def _tensor_lines(entries: list[dict[str, Any]]) -> list[str]:
    width = max((len(entry["name"]) for entry in entries), default=0)
    return [f"{entry['name']:{width}}  {shape_text(entry['shape'])}  {entry['dtype']}" for entry in entries]


def print_description(found: dict[str, Any]) -> None:
    """Aligned columns for a person."""
    made = f", made by {found['exporter']}" if found["exporter"] else ""
    size = size_in_words(found["bytes"])
    print(f"{found['file']}: {size}, opset {found['opset']}, IR {found['ir_version']}{made}\n")
    _print_field("inputs", _tensor_lines(found["inputs"]))
    _print_field("outputs", _tensor_lines(found["outputs"]))
    _print_field("parameters", [f"{found['parameters']:,}, {size_in_words(4 * found['parameters'])} as float32"])
    operators = [f"{name} {count}" for name, count in found["operators"].items()]
    _print_field("nodes", [f"{found['nodes']} of {len(operators)} operators", *_wrapped(operators)])
    _print_field("looks like", [f"{found['likely_task'] or 'not recognised'}: {found['why']}"])
    if found["obstacle"]:
        _print_field("", [f"-> {found['obstacle']}"])
    _print_field("normalisation", [found["opening"]])
    if found["cut"]:
        cuts = [f"{one['tensor']}  {shape_text(one['shape'])}" for one in found["cut"]["tensors"]]
        behind = f"{found['cut']['nodes_behind']} nodes behind these are decode, which the host does:"
        _print_field("cut points", [behind, *cuts])
    _print_field("warnings", found["warnings"] or ["none"])
    print()
    print_chips(found["chips"])


def _wrapped(words: list[str], width: int = 96) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > width:
            lines.append("")
        lines[-1] += f"{'  ' if lines[-1] else ''}{word}"
    return lines


def print_chips(chips: list[dict[str, Any]]) -> None:
    """One line for all chips with the same verdict; of those that refuse, the first reasons."""
    if not chips:
        print("The chips were not asked: that needs one image input of fixed size.")
        return
    groups: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for chip in chips:
        groups.setdefault((chip["takes_it"], tuple(chip["reasons"])), []).append(chip["chip"])
    print("Preflight, after the fix passes:")
    for (takes_it, reasons), names in sorted(groups.items(), key=lambda item: not item[0][0]):
        print(f"  {'takes it' if takes_it else 'refuses it':10}  {', '.join(names)}")
        for reason in reasons[:MOST_REASONS]:
            print(f"  {'':10}    {reason}")
        if len(reasons) > MOST_REASONS:
            print(f"  {'':10}    and {len(reasons) - MOST_REASONS} more")


def main() -> None:
    """python -m common.inspect_onnx --onnx FILE [--nodes 1] [--json 1]"""
    parser = argparse.ArgumentParser(description="what is in an ONNX file, and which chips would take it")
    for name in ("onnx", "nodes", "json"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    if not arguments.onnx:
        raise UserError("inspect which graph? ONNX= is not set", "make inspect ONNX=file.onnx", USAGE_EXIT)
    path = Path(arguments.onnx)
    if not path.is_file():
        raise UserError(f"ONNX={arguments.onnx} is not a file", "check the path", USAGE_EXIT)
    for name in ("nodes", "json"):
        if getattr(arguments, name) not in ("", "1"):
            raise UserError(
                f"{name.upper()}={getattr(arguments, name)} makes no sense", f"{name.upper()}=1", USAGE_EXIT
            )
    found = describe(path)
    rows = nodes_of(path) if arguments.nodes else []
    if arguments.json:
        keys = ("number", "name", "operator", "makes")
        print(
            to_json(found | ({"node_list": [dict(zip(keys, row, strict=True)) for row in rows]} if rows else {})),
            end="",
        )
        return
    print_description(found)
    if rows:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        print("\nNodes:")
        for row in rows:
            print("  " + "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    run(main)
