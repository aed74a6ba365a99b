"""Which chips' compilers would take a graph: the preflight of every chip, on a graph that no cell was asked for yet.

As in a build, the graph is rewritten for the chip first (the fix passes), and a detector is cut before its decode; that
the passes change nothing is proven in the build.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

from common.basics.errors import UserError
from common.declarations.chip_spec import ChipSpec, GraphSpec
from common.declarations.spec import chip_names, load_chip
from common.fixes import discover
from common.graphs.detection_cut import ending_at
from common.graphs.likely_task import Likeness, Shapes
from common.preflight import find_problems


@dataclass(frozen=True)
class Verdict:
    """What one chip's preflight says. problems: as common/preflight.py lists them; empty where the chip takes it.
    refused: why the fix passes could not rewrite the graph for it."""

    chip: str
    problems: tuple[dict[str, Any], ...] = ()
    refused: str | None = None

    @property
    def takes_it(self) -> bool:
        return not self.problems and self.refused is None

    def reasons(self) -> list[str]:
        """Each thing that the compiler would refuse, with the way out and the nodes, once."""
        if self.refused is not None:
            return [self.refused]
        groups: dict[str, list[str]] = {}
        for item in self.problems:
            nodes = groups.setdefault(f"{item['problem']} -> {item['way_out']}", [])
            if item["node"]:
                nodes.append(item["node"])
        return [f"{text} (node {nodes[0]}{_more(nodes)})" if nodes else text for text, nodes in groups.items()]


def _more(nodes: list[str]) -> str:
    return f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""


def graph_for_chips(shapes: Shapes, likeness: Likeness) -> onnx.ModelProto:
    """What a build would hand to the fix step: the graph, static, without a detector's decode."""
    if not likeness.cut or set(likeness.cut) == set(shapes.outputs):
        return shapes.model
    pruned = ending_at(shapes.model, list(likeness.cut))
    del pruned.graph.output[:]
    for name, shape in likeness.cut.items():
        pruned.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return pruned


def verdicts(model: onnx.ModelProto) -> list[Verdict]:
    """One for each chip, in the order of their folders."""
    rewritten: dict[str, onnx.ModelProto | str] = {}
    found = []
    for name in chip_names():
        chip = load_chip(name)
        key = repr(chip.graph)
        if key not in rewritten:  # several chips read the same kind of graph
            rewritten[key] = _rewrite(model, chip.graph)
        found.append(_verdict(name, chip, rewritten[key]))
    return found


def _verdict(name: str, chip: ChipSpec, graph: onnx.ModelProto | str) -> Verdict:
    if isinstance(graph, str):
        return Verdict(name, refused=graph)
    return Verdict(name, tuple(find_problems(graph, chip)))


def _rewrite(model: onnx.ModelProto, wanted: GraphSpec) -> onnx.ModelProto | str:
    """The graph as this kind of chip reads it; or why a pass gave up."""
    current = onnx.ModelProto()
    current.CopyFrom(model)
    for item in discover():
        try:
            current, _ = item.apply(current, wanted)
        except UserError as error:
            return f"the fix pass {item.name} gives up: {error.message}"
    return current
