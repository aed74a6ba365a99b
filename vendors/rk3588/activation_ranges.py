"""Ranges of least squared error for the tensors of a network, in place of the largest values ever seen.

The toolkit's own way to this (quantized_algorithm="mmse") takes minutes where this takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from failure import VendorError, quiet
from graph_preparation import load_graph
from quantization_file import Configuration
from range_search import BINS, best_range, centres, histogram
from tqdm import tqdm


class FloatNetwork:
    """The network in float32 by onnxruntime, all tensors of interest at once."""

    def __init__(self, path: Path, tensors: Sequence[str] = ()):
        """tensors: the names to give beside the outputs; those that the graph does not have are left out."""
        model = load_graph(path)
        made = {name for node in model.graph.node for name in node.output}
        outputs = [value.name for value in model.graph.output]
        self.outputs = list(outputs)
        for name in tensors:
            if name in made and name not in outputs:
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
                outputs.append(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 2
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no common parent
            raise VendorError(
                f"onnxruntime cannot run {path.name}: {str(error).splitlines()[0]}",
                "run make again: the fix step checks it",
            ) from None
        self.names = outputs

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in; every tensor of `names` out."""
        return dict(zip(self.names, self._session.run(self.names, inputs), strict=True))


def groups_of(configuration: Configuration) -> list[list[str]]:
    """Tensors that must keep one range: neighbours in the graph to which the toolkit gave the same."""
    names = [name for name in configuration.tensors if configuration.has_one_range(name)]
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in configuration.graph.node:
        near = [name for name in (*node.input, *node.output) if name in parent]
        for first in near:
            for second in near:
                if first != second and configuration.range_of(first) == configuration.range_of(second):
                    parent[root(first)] = root(second)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def choose_ranges(configuration: Configuration, network: Path, batches: Sequence[dict[str, np.ndarray]]) -> int:
    """Change the ranges in the configuration; returns of how many tensors. batches: float inputs to look at."""
    inputs = {value.name for value in configuration.graph.input}
    seen = {
        name: configuration.seen_range_of(name)
        for name in configuration.tensors
        if configuration.has_one_range(name) and name not in inputs
    }
    seen = {name: ends for name, ends in seen.items() if ends[0] < ends[1]}
    running = FloatNetwork(network, list(seen))
    counts = {name: np.zeros(BINS) for name in running.names if name in seen}
    for batch in tqdm(batches, desc="ranges", disable=quiet(), file=sys.stderr):
        for name, values in running.run(batch).items():
            if name in counts:
                counts[name] += histogram(values, *seen[name])
    changed = 0
    for group in groups_of(configuration):
        low, high = configuration.range_of(group[0])
        # A convolution before a fused activation is seen beyond the group's range, and is not what is quantised.
        members = [name for name in group if name in counts and low <= seen[name][0] and seen[name][1] <= high]
        if not members or not low <= 0 <= high or not low < high:
            continue
        total = np.zeros(BINS)
        for name in members:
            total += np.histogram(centres(*seen[name]), BINS, (low, high), weights=counts[name])[0]
        best = best_range(total, low, high)
        for name in group:
            # Only these two may be changed; the toolkit works out scale and zero point.
            configuration.tensors[name]["min"], configuration.tensors[name]["max"] = [float(best[0])], [float(best[1])]
            changed += 1
    return changed
