"""The network as it is given to RKNN-Toolkit2: what the toolkit would quantise badly is rewritten, with equal numbers.

The toolkit folds a BatchNormalization into the Conv before it, but not into a ConvTranspose. Left alone, the tensor
between the two is quantised with one scale for channels that the BatchNormalization then multiplies very differently.
And its simulator ends ("scale_inf.shape error!") at an int8 ConvTranspose of several groups of several channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from failure import VendorError
from google.protobuf.message import DecodeError
from onnx import numpy_helper


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file. Raises VendorError when it is missing or damaged."""
    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", "run make again: it writes the fixed graph") from None
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise VendorError(f"{path} is no readable ONNX file ({error})", "run make again: it writes it anew") from None


def prepare(source: Path, target: Path) -> tuple[list[str], int]:
    """Write the prepared graph; returns in words what was rewritten, and the number of its layers."""
    model = load_graph(source)
    folded = fold_batch_normalizations(model.graph)
    filled = fill_groups(model.graph)
    onnx.save(model, str(target))
    changes = [f"{name}: folded into the ConvTranspose before it" for name in folded]
    changes += [f"{name}: its groups written as one, with zeros" for name in filled]
    return changes, _count_layers(model.graph)


def _count_layers(graph: onnx.GraphProto) -> int:
    """How many layers the toolkit makes of the graph, as far as it can be told before: an activation behind a
    convolution or a sum is part of it."""
    before = {node.output[0] for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Add")}
    return sum(not (node.op_type in ("Relu", "Clip") and node.input[0] in before) for node in graph.node)


def fold_batch_normalizations(graph: onnx.GraphProto) -> list[str]:
    """Fold every BatchNormalization that alone follows a ConvTranspose into its weights and bias.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per channel (ONNX, BatchNormalization, inference); the
    ConvTranspose's weight is [in channels, out channels / group, height, width].
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    folded = []
    for node in list(graph.node):
        after = readers.get(node.output[0], []) if node.op_type == "ConvTranspose" else []
        if len(after) != 1 or after[0].op_type != "BatchNormalization" or node.output[0] in outputs:
            continue
        following = after[0]
        names = [*node.input[1:], *following.input[1:5]]
        if any(name not in constants for name in names) or len(following.output) != 1:
            continue
        scale, shift, mean, variance = (_float64(constants[name]) for name in following.input[1:5])
        epsilon = _attribute(following, "epsilon", 1e-5)
        group = int(_attribute(node, "group", 1))
        factor = scale / np.sqrt(variance + epsilon)
        weight = _float64(constants[node.input[1]])
        bias = _float64(constants[node.input[2]]) if len(node.input) > 2 else np.zeros_like(mean)
        per_group = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        weight = (per_group * factor.reshape(group, 1, -1, 1, 1)).reshape(weight.shape)
        made = {f"{following.output[0]}.weight": weight, f"{following.output[0]}.bias": (bias - mean) * factor + shift}
        graph.initializer.extend(
            numpy_helper.from_array(array.astype(np.float32), name) for name, array in made.items()
        )
        del node.input[1:]
        node.input.extend(made)
        node.output[0] = following.output[0]
        graph.node.remove(following)
        folded.append(following.name or following.output[0])
    _drop_unused_constants(graph)
    return folded


def fill_groups(graph: onnx.GraphProto) -> list[str]:
    """Write every ConvTranspose of several groups, more than a channel each, as one group with zeros; returns names."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    filled = []
    for node in graph.node:
        group = int(_attribute(node, "group", 1)) if node.op_type == "ConvTranspose" else 1
        if group == 1 or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        inputs, outputs = weight.shape[0] // group, weight.shape[1]
        if inputs == outputs == 1:
            continue
        dense = np.zeros((weight.shape[0], group * outputs, *weight.shape[2:]), np.float32)
        for index in range(group):
            rows = slice(index * inputs, (index + 1) * inputs)
            dense[rows, index * outputs : (index + 1) * outputs] = weight[rows]
        node.input[1] = f"{node.output[0]}.dense"
        graph.initializer.append(numpy_helper.from_array(dense, node.input[1]))
        kept = [attribute for attribute in node.attribute if attribute.name != "group"]
        del node.attribute[:]
        node.attribute.extend(kept)
        filled.append(node.name or node.output[0])
    _drop_unused_constants(graph)
    return filled


def _float64(tensor: onnx.TensorProto) -> np.ndarray:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _drop_unused_constants(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
