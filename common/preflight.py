"""Preflight: will the chip's compiler take this graph? Answered in a second, before any toolchain starts.

    python -m common.preflight out/<model>/<chip>/<variant>      model.onnx -> preflight.json

The chip's folder says what it takes: `operators` maps an operator to the values that its attributes may have,
`unsupported` an operator to the way out, `graph` the opset range and the IR version. All problems are listed at once.
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

import onnx
from onnx import defs, helper

from common.basics.errors import UserError, run
from common.basics.files import write_json
from common.basics.wording import listed, shape_text
from common.declarations.spec import ChipSpec
from common.graphs.onnx_graph import graph_inputs, graph_outputs, load_onnx, opset_of
from common.job import Cell

STANDARD_DOMAINS = ("", "ai.onnx")
NOTE = "note"  # the key of an operator's entry that is text for people, not an attribute
MOST_LINES, MOST_NODES = 20, 3


def find_problems(model: onnx.ModelProto, chip: ChipSpec) -> list[dict[str, Any]]:
    """Everything that the chip's compiler would refuse, in graph order.

    Each problem is {"node", "operator", "attribute", "problem", "way_out"}; None where it does not apply.
    """
    problems = _graph_problems(model, chip)
    opset = opset_of(model)
    for index, node in enumerate(model.graph.node):
        for attribute, problem, way_out in _node_problems(node, chip, opset):
            problems.append(_problem(problem, way_out, node.name or f"number {index}", node.op_type, attribute))
    return problems


def _graph_problems(model: onnx.ModelProto, chip: ChipSpec) -> list[dict[str, Any]]:
    problems = []
    lowest, highest = chip.graph.opset
    if not lowest <= (opset := opset_of(model)) <= highest:
        problems.append(_problem(f"opset {opset} is outside {lowest} to {highest}", f"export with opset {lowest}"))
    if model.ir_version > chip.graph.ir_version:
        problems.append(
            _problem(f"IR {model.ir_version} is newer than {chip.graph.ir_version}", "run the fix step again")
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    if any(value.name in weights for value in model.graph.input):
        problems.append(_problem("weights are listed among the inputs", "run the fix step again"))
    for kind, tensors in (("input", graph_inputs(model)), ("output", graph_outputs(model))):
        if not tensors:
            problems.append(_problem(f"the graph has no {kind}", "export it again"))
        for tensor in tensors:
            if tensor.dtype != "float32":
                problems.append(_problem(f"{kind} '{tensor.name}' is {tensor.dtype}", "export it as float32"))
            if chip.graph.static and (tensor.shape is None or any(isinstance(size, str) for size in tensor.shape)):
                problem = f"{kind} '{tensor.name}' has no fixed shape: {shape_text(tensor.shape)}"
                problems.append(_problem(problem, "export it with a static batch of 1 and fixed sizes"))
    return problems


def _node_problems(node: onnx.NodeProto, chip: ChipSpec, opset: int) -> list[tuple[str | None, str, str]]:
    """(attribute, problem, way out) of one node; empty when the chip takes it."""
    if node.domain not in STANDARD_DOMAINS:
        return [(None, f"operator set '{node.domain}' is not ONNX's own", "export it with standard operators only")]
    if node.op_type not in chip.operators:
        return [(None, f"{node.op_type} is not supported", _way_out(node.op_type, chip))]
    found = []
    rules = chip.operators[node.op_type] or {}
    for attribute, allowed in rules.items():
        if attribute == NOTE:
            continue
        value = attribute_value(node, attribute, opset)
        choices = allowed if isinstance(allowed, list) else [allowed]
        if value is not None and not any(_same(value, choice) for choice in choices):
            way_out = f"{attribute} may be {' or '.join(map(str, choices))}"
            if NOTE in rules:
                way_out += f" ({rules[NOTE]})"
            found.append((attribute, f"{attribute}={value} is not supported", way_out))
    return found


def _way_out(operator: str, chip: ChipSpec) -> str:
    if operator in chip.unsupported:
        return chip.unsupported[operator]
    near = difflib.get_close_matches(operator, chip.operators, n=1)
    similar = f"; the nearest that is supported: {near[0]}" if near else ""
    return f"replace it in the network, or export the network up to the tensor before it{similar}"


def attribute_value(node: onnx.NodeProto, name: str, opset: int) -> Any:
    """The attribute's value as written, else the operator's default at this opset, else None."""
    for attribute in node.attribute:
        if attribute.name == name:
            return _plain(helper.get_attribute_value(attribute))
    try:
        declared = defs.get_schema(node.op_type, opset).attributes.get(name)
    except defs.SchemaError:
        return None
    if declared is None or declared.default_value.type == onnx.AttributeProto.UNDEFINED:
        return None
    return _plain(helper.get_attribute_value(declared.default_value))


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _same(value: Any, choice: Any) -> bool:
    """Equal; a single choice for a list attribute holds for each of its entries (strides: [1, 2])."""
    if isinstance(choice, (list, tuple)):
        return isinstance(value, (list, tuple)) and list(value) == list(choice)
    if isinstance(value, (list, tuple)):
        return all(entry == choice for entry in value)
    return bool(value == choice)


def _problem(
    problem: str, way_out: str, node: str | None = None, operator: str | None = None, attribute: str | None = None
) -> dict[str, Any]:
    return {"node": node, "operator": operator, "attribute": attribute, "problem": problem, "way_out": way_out}


def check_problems(problems: list[dict[str, Any]], where: str) -> None:
    """Raises one UserError that lists every problem with its way out; nodes with the same one share a line."""
    if not problems:
        return
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in problems:
        groups.setdefault((item["problem"], item["way_out"]), []).append(item)
    lines = []
    for (problem, way_out), items in groups.items():
        nodes = [f"'{item['node']}' ({item['operator']})" for item in items if item["node"]]
        subject = f"node{'s' * (len(nodes) > 1)} {listed(nodes, MOST_NODES)}: " if nodes else ""
        lines.append(f"\n  {subject}{problem} -> {way_out}")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"\n  and {len(lines) - MOST_LINES} more: see preflight.failed.json"]
    count = "1 thing" if len(problems) == 1 else f"{len(problems)} things"
    raise UserError(f"{where}: the chip's compiler would refuse {count}:{''.join(lines)}", problems[0]["way_out"])


def preflight(folder: str | Path) -> dict[str, Any]:
    """Check the cell's fixed graph and write preflight.json; on problems preflight.failed.json, and raise UserError."""
    cell = Cell(folder)
    model = load_onnx(cell.folder / "model.onnx")
    chip = cell.chip_spec
    problems = find_problems(model, chip)
    record = {
        "chip": cell.chip,
        "ok": not problems,
        "nodes": len(model.graph.node),
        "operators": sorted({node.op_type for node in model.graph.node}),
        "opset": opset_of(model),
        "ir_version": model.ir_version,
        "problems": problems,
    }
    if problems:
        # preflight.json is what make takes for a pass: a refused graph leaves its findings under another name.
        (cell.folder / "preflight.json").unlink(missing_ok=True)
        write_json(cell.folder / "preflight.failed.json", record)
        check_problems(problems, cell.name)
    (cell.folder / "preflight.failed.json").unlink(missing_ok=True)
    write_json(cell.folder / "preflight.json", record)
    return record


def main() -> None:
    """python -m common.preflight CELL"""
    parser = argparse.ArgumentParser(description="check a fixed graph against the chip's operators")
    parser.add_argument("cell", help="out/<model>/<chip>/<variant>")
    record = preflight(parser.parse_args().cell)
    print(f"preflight: {record['nodes']} nodes of {len(record['operators'])} operators, all taken by {record['chip']}")


if __name__ == "__main__":
    run(main)
