"""Where the compiler ends the network: the nodes that make the job's outputs, or those that END_NODES= names.

The compiler takes node names, not tensor names. END_NODES= may name others than the network's own only where their
tensors are the network's outputs, number for number: whatever would lie behind them would be lost without a word.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import onnx
from failure import VendorError
from google.protobuf.message import DecodeError
from job_file import Job, load_samples
from output_map import EndPoint

OPTION = "END_NODES"
TOLERANCE = 1e-4  # relative: one runtime computes both, in the same order but for what it fuses
AGAIN = "run make again: it writes the fixed graph"


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file. Raises VendorError when it is missing or damaged."""
    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", AGAIN) from None
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise VendorError(f"{path} is no readable ONNX file ({error})", AGAIN) from None


def end_points(job: Job, model: onnx.ModelProto) -> list[EndPoint]:
    """One for each of job.outputs, in their order. Raises VendorError when a node is missing, unnamed or another's."""
    makers = {name: node for node in model.graph.node for name in node.output}
    names = [node.name for node in model.graph.node]
    asked = [word for word in re.split(r"[,\s]+", job.options.get(OPTION, "")) if word]
    if OPTION in job.options:
        return _asked_points(job, model, asked)
    found = []
    for tensor in job.outputs:
        node = makers.get(tensor.name)
        if node is None:
            raise VendorError(f"no node of {job.graph} makes the output {tensor.name}", AGAIN)
        if not node.name or names.count(node.name) > 1:
            raise VendorError(f"the node that makes {tensor.name} has no name of its own: {node.name!r}", AGAIN)
        found.append(EndPoint(tensor.name, tensor.shape, node.name, tensor.name))
    return found


def _asked_points(job: Job, model: onnx.ModelProto, asked: list[str]) -> list[EndPoint]:
    """END_NODES=: each output of the job is matched with the asked tensor that is equal to it on a sample."""
    nodes = {node.name: node for node in model.graph.node}
    hint = f"{OPTION}= takes names of nodes, with commas between them; leave it out for the network's own ends"
    if not asked or len(set(asked)) != len(asked):
        raise VendorError(f"{OPTION}={job.options[OPTION]!r} names no node, or one twice", hint)
    for name in asked:
        if name not in nodes:
            raise VendorError(f"{OPTION}: no node of {job.graph} is called {name!r}", hint)
    if len(asked) != len(job.outputs):
        raise VendorError(f"{OPTION} names {len(asked)} nodes, and the network has {len(job.outputs)} outputs", hint)
    tensors = {name: nodes[name].output[0] for name in asked}
    values = _run(job, model, [*tensors.values(), *(tensor.name for tensor in job.outputs)])
    found = []
    left = dict(tensors)
    for tensor in job.outputs:
        expected = values[tensor.name]
        differences = {name: _difference(values[source], expected) for name, source in left.items()}
        best = min(differences, key=lambda name: differences[name])
        if not differences[best] <= TOLERANCE:
            raise VendorError(
                f"{OPTION}: none of {', '.join(left)} gives the network's output {tensor.name} "
                f"(the nearest, {best}: {_told(differences[best])})",
                "what lies behind those nodes would have to be done on the host: cut the network there in the first "
                "place (its own ONNX, whose outputs are these tensors), and decode them there",
            )
        found.append(EndPoint(tensor.name, tensor.shape, best, left.pop(best)))
    return found


def _run(job: Job, model: onnx.ModelProto, tensors: list[str]) -> dict[str, np.ndarray]:
    """The tensors of the graph on the job's first sample, by onnxruntime, which is part of the SDK's environment."""
    import onnxruntime  # a second that only END_NODES= needs

    probe = copy.deepcopy(model)
    known = {value.name for value in probe.graph.output}
    wanted = list(dict.fromkeys(tensors))
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    options = onnxruntime.SessionOptions()
    # Optimised, the same tensor could be computed differently as an output and inside.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    samples = load_samples(job.samples, job.inputs)
    values = session.run(wanted, {name: array[: job.batch] for name, array in samples.items()})
    return dict(zip(wanted, values, strict=True))


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest value; infinite where the shapes differ."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def _told(difference: float) -> str:
    return "of another shape" if difference == float("inf") else f"differs by {difference:.2g} of the largest value"
