"""Fix: the float graph, rewritten as this chip wants it, in small named passes that each prove themselves.

    python -m common.fix out/<model>/<chip>/<variant>      ../../float/model.onnx -> model.onnx, fix.json

A pass must not change what the graph computes. After every pass that changed something, the new graph and the one
before it run on the same random and real inputs; a difference above the tolerance is an error that names the pass.

The yardstick is onnxruntime on the graph exactly as it came. Where it refuses that graph, the yardstick is the same
graph run one operator at a time (common/graphs/node_by_node.py), until a pass has made it run as a whole; fix.json
says so.

With BATCH=n the graph takes n samples at once in the end (common/graphs/batch.py); n different ones then give what
each gives alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from common.basics.errors import UserError, run
from common.basics.files import replacing, write_json
from common.basics.progress import Progress
from common.declarations.chip_spec import GraphSpec
from common.fixes import Pass, discover
from common.graphs.batch import set_batch
from common.graphs.node_by_node import run_node_by_node
from common.graphs.onnx_graph import (
    Runner,
    check_static,
    graph_inputs,
    graph_outputs,
    load_onnx,
    operator_counts,
    opset_of,
)
from common.job import Cell

# Folding BatchNormalization into a convolution rounds differently in float32: 3e-5 of the output's largest value over
# HRNet-W32's 293 convolutions, 3e-6 over a small network's 56. A wrong epsilon alone costs more than 1e-3.
TOLERANCE = 1e-4
RANDOM_SAMPLES, REAL_SAMPLES = 2, 3
WHOLE, BY_NODE = "onnxruntime", "onnxruntime, one operator at a time"


@dataclass
class Evaluation:
    """Outputs of a graph, and what computed them; refused: why onnxruntime would not run it as a whole."""

    outputs: dict[str, np.ndarray]
    by: str
    refused: str | None = None


def evaluate(model: onnx.ModelProto, samples: dict[str, np.ndarray]) -> Evaluation:
    """Run a graph as it is: in onnxruntime as a whole, else operator by operator. UserError when neither runs."""
    try:
        return Evaluation(Runner(model, as_it_came=True).run(samples), WHOLE)
    except UserError as error:
        return Evaluation(run_node_by_node(model, samples), BY_NODE, error.message)


def difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> tuple[float, float]:
    """The largest absolute difference over all outputs, and the largest relative to that output's largest value.

    Raises UserError when the outputs' names or shapes differ; a value that is not finite differs infinitely.
    """
    if {name: a.shape for name, a in first.items()} != {name: a.shape for name, a in second.items()}:
        raise UserError(f"the outputs were {_shapes(first)} and are {_shapes(second)}")
    largest = relative = 0.0
    for name, expected in first.items():
        absolute = float(np.abs(expected.astype(np.float64) - second[name]).max())
        scale = float(np.abs(expected).max())
        if not np.isfinite(absolute) or not np.isfinite(scale):
            return float("inf"), float("inf")
        largest = max(largest, absolute)
        if absolute > 0:
            relative = max(relative, absolute / scale if scale > 0 else float("inf"))
    return largest, relative


def fix_graph(
    model: onnx.ModelProto, chip: GraphSpec, samples: dict[str, np.ndarray], passes: list[Pass] | None = None
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Apply the passes (all of common/fixes, if none are given) to a copy of the graph, and prove each.

    samples: {input name: float32 [N, ...]}. Returns the fixed graph and the content of fix.json.
    Raises UserError that names the pass which failed or changed the outputs.
    """
    current = onnx.ModelProto()
    current.CopyFrom(model)
    original = before = evaluate(current, samples)
    if not all(np.isfinite(output).all() for output in original.outputs.values()):
        raise UserError("the network's outputs are not finite on the proof inputs", "check its weights and its input")
    records = []
    for item in discover() if passes is None else passes:
        nodes_before = len(current.graph.node)
        serialized = current.SerializeToString(deterministic=True)
        try:
            current, changes = item.apply(current, chip)
            changed = current.SerializeToString(deterministic=True) != serialized
            after = evaluate(current, samples) if changed else before
            max_abs, relative = difference(before.outputs, after.outputs)
        except UserError as error:
            raise UserError(f"fix pass '{item.name}': {error.message}", error.hint) from None
        if relative > TOLERANCE:
            raise UserError(
                f"fix pass '{item.name}' changes the outputs: by {max_abs:.3g}, which is {relative:.2g} of the largest "
                f"value ({TOLERANCE:.0e} is allowed)",
                f"not your network's fault: report it, with the file; common/fixes/{item.name}.py is the pass",
            )
        records.append(
            {
                "name": item.name,
                "description": item.description,
                "changed": changed,
                "changes": changes,
                "max_abs": max_abs,
                "nodes_before": nodes_before,
                "nodes_after": len(current.graph.node),
                "proven_by": after.by if changed else "nothing changed",
            }
        )
        before = after
    total, relative = difference(original.outputs, before.outputs)
    if relative > TOLERANCE:
        raise UserError(f"the passes together change the outputs by {total:.3g}, though none does alone")
    return current, {
        "yardstick": f"{original.by}, on the graph as it came" + (f" ({original.refused})" if original.refused else ""),
        "tolerance": TOLERANCE,
        "max_abs": total,
        "largest_output": max(float(np.abs(output).max()) for output in original.outputs.values()),
        "samples": len(next(iter(samples.values()))),
        "passes": records,
        "opset": [opset_of(model), opset_of(current)],
        "ir_version": [model.ir_version, current.ir_version],
        "operators_before": operator_counts(model),
        "operators_after": operator_counts(current),
        "inputs": [{"name": tensor.name, "shape": list(tensor.shape or ())} for tensor in graph_inputs(current)],
        "outputs": [
            {"name": tensor.name, "shape": [1, *before.outputs[tensor.name].shape[1:]]}
            for tensor in graph_outputs(current)
        ],
    }


def proof_samples(model: onnx.ModelProto, samples_path: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Random inputs (normal, as normalised images are) and the first real ones of samples.npz, if it exists.

    Returns {input name: float32 [N, ...]} and the counts {"random", "real"}.
    Raises UserError when an input is dynamic or samples.npz does not fit the graph.
    """
    check_static(model, "the graph")
    random = np.random.default_rng(0)
    samples = {
        tensor.name: random.standard_normal((RANDOM_SAMPLES, *tensor.shape[1:])).astype(np.float32)
        for tensor in graph_inputs(model)
    }
    real = 0
    if samples_path.exists():
        with np.load(samples_path, allow_pickle=False) as stored:
            for name, array in samples.items():
                if name not in stored or stored[name].shape[1:] != array.shape[1:]:
                    raise UserError(
                        f"{samples_path} does not fit the graph's input '{name}'", "remove it, and make again"
                    )
                samples[name] = np.concatenate([array, stored[name][:REAL_SAMPLES]])
                real = len(samples[name]) - RANDOM_SAMPLES
    return samples, {"random": RANDOM_SAMPLES, "real": real}


def batch_graph(
    model: onnx.ModelProto, batch: int, samples: dict[str, np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph for `batch` samples at once, and the proof that it gives for each what the graph gives for one.

    samples: {input name: float32 [N, ...]}, all different; random ones are added until they fill whole batches.
    Returns (graph, {"size", "samples", "max_abs", "tolerance": relative to the largest output}).
    Raises UserError when the graph cannot have a batch, or when samples mix.
    """
    try:
        result = set_batch(model, batch)
    except UserError as error:
        raise UserError(f"BATCH={batch}: {error.message}", error.hint) from None
    random = np.random.default_rng(batch)
    missing = -len(next(iter(samples.values()))) % batch
    samples = {
        name: np.concatenate([array, random.standard_normal((missing, *array.shape[1:])).astype(array.dtype)])
        for name, array in samples.items()
    }
    count = len(next(iter(samples.values())))
    alone = Runner(model, as_it_came=True).run(samples)
    runner = Runner(result, as_it_came=True)
    groups = [
        runner.run_once({name: array[start : start + batch] for name, array in samples.items()})
        for start in range(0, count, batch)
    ]
    together = {name: np.concatenate([group[name] for group in groups]) for name in alone}
    max_abs, relative = difference(alone, together)
    if relative > TOLERANCE:
        raise UserError(
            f"BATCH={batch}: samples that run together influence each other: outputs differ by {max_abs:.3g} from "
            f"those of each alone, which is {relative:.2g} of the largest value ({TOLERANCE:.0e} is allowed)",
            "a layer works across the batch axis; build it with BATCH=1",
        )
    return result, {"size": batch, "samples": count, "max_abs": max_abs, "tolerance": TOLERANCE}


def fix_cell(folder: str | Path) -> dict[str, Any]:
    """Read the cell's float graph, fix it, write model.onnx and fix.json beside request.json; returns fix.json."""
    cell = Cell(folder)
    source = cell.float_folder / "model.onnx"
    model = load_onnx(source)
    samples, counts = proof_samples(model, cell.float_folder / "samples.npz")
    fixed, record = fix_graph(model, cell.chip_spec.graph, samples)
    if cell.batch > 1:
        fixed, record["batch"] = batch_graph(fixed, cell.batch, samples)
        for tensor in [*record["inputs"], *record["outputs"]]:
            tensor["shape"][0] = cell.batch
    try:
        onnx.checker.check_model(fixed, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"the fixed graph of {source} breaks the rules of ONNX: {str(error).splitlines()[0]}") from None
    record |= {"samples": counts}
    with replacing(cell.folder / "model.onnx") as temporary:
        onnx.save(fixed, temporary)
    write_json(cell.folder / "fix.json", record)
    return record


def _shapes(outputs: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in outputs.items()}


def main() -> None:
    """python -m common.fix CELL"""
    parser = argparse.ArgumentParser(description="rewrite the float graph as a chip wants it")
    parser.add_argument("cell", help="out/<model>/<chip>/<variant>")
    cell = Cell(parser.parse_args().cell)
    with Progress(f"fix {cell.name}"):
        record = fix_cell(cell.folder)
    changed = [item["name"] for item in record["passes"] if item["changed"]]
    print(
        f"fix: {', '.join(changed) or 'nothing to do'}; outputs differ by {record['max_abs']:.2g} from the original's"
    )


if __name__ == "__main__":
    run(main)
