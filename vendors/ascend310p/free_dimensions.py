"""One network for several input sizes, or several batches: the fixed dimensions are taken out of its graph.

atc compiles one artifact for a list of sizes (`--dynamic_image_size`) or batches (`--dynamic_batch_size`), when nothing
but the input's shape holds them. A graph with a size of its own, in a Reshape for instance, would compile for one size
and compute rubbish, or nothing, for the others: it is refused here, with the node's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from failure import VendorError
from job_file import Job
from network_graph import FloatNetwork
from onnx import numpy_helper

HEIGHT, WIDTH = 2, 3
TO_THE_END = 2**31 - 1  # exporters write "to the end" as this, or as the largest 64-bit number
NEAR = 1e-4  # of the largest value: another order of the sums, and no more
SIZES_TRIED = 3
OTHERWISE = {
    "image_size": "export a Resize with scale_factor instead of size, and no reshaping of images",
    "batch": "export it with -1 for the batch",
}

# Operators that hold the size of the image in a constant or in what they flatten, whatever their inputs.
_HOLD_SIZES = {"Reshape", "Expand", "Tile", "ConstantOfShape", "Flatten", "Gemm", "MatMul", "Range", "Upsample"}
# Operators that may hold it in a constant operand, as a grid of anchors does.
_WITH_OPERANDS = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Concat", "PRelu"}
_HOLD_BATCH = {"Expand", "Tile", "ConstantOfShape"}


def without_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose height and width are free. Raises VendorError, with the node, when the graph holds a size."""
    constants = _constants(model)
    for node in model.graph.node:
        if _holds_size(node, constants):
            raise _refused(node, "a size", "image_size")
    return _freed(model, (HEIGHT, WIDTH), ("height", "width"))


def without_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose batch is free. Raises VendorError, with the node, when the graph holds the batch."""
    constants = _constants(model)
    for node in model.graph.node:
        held = node.op_type in _HOLD_BATCH
        if node.op_type == "Reshape":
            shape = constants.get(node.input[1])
            held = shape is None or not shape.size or int(shape.flat[0]) not in (0, -1)
        if node.op_type == "Resize":
            held = "".join(node.input[3:]) != ""
        if held:
            raise _refused(node, "the batch", "batch")
    return _freed(model, (0,), ("batch",))


def _refused(node: onnx.NodeProto, what: str, option: str) -> VendorError:
    return VendorError(
        f"node '{node.name or node.output[0]}' ({node.op_type}) holds {what}, so DYNAMIC={option} cannot be",
        f"{OTHERWISE[option]}; or end the graph before it, or leave DYNAMIC= out",
    )


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                known[node.output[0]] = numpy_helper.to_array(attribute.t)
    return known


def _holds_size(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> bool:
    """Whether the node works for one height and width only."""
    if node.op_type == "Resize":  # inputs: X, roi, scales, sizes
        scales = constants.get(node.input[2]) if len(node.input) > 2 else None
        return "".join(node.input[3:]) != "" or scales is None or scales.size != 4
    if node.op_type == "Slice" and len(node.input) > 2:  # inputs: data, starts, ends, axes, steps
        return _slice_ends_inside(node, constants)
    if node.op_type in _WITH_OPERANDS:
        shapes = [constants[name].shape for name in node.input if name in constants]
        return any(len(shape) >= 2 and max(shape[-2:]) > 1 for shape in shapes)
    return node.op_type in _HOLD_SIZES


def _slice_ends_inside(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> bool:
    ends = constants.get(node.input[2])
    axes = constants.get(node.input[3]) if len(node.input) > 3 else None
    if ends is None:
        return True
    numbers = [int(axis) for axis in axes] if axes is not None else list(range(len(ends)))
    spatial = (HEIGHT, WIDTH, -2, -1)
    return any(axis in spatial and 0 < int(ends[index]) < TO_THE_END for index, axis in enumerate(numbers))


def _freed(model: onnx.ModelProto, axes: Iterable[int], words: Sequence[str]) -> onnx.ModelProto:
    free = onnx.ModelProto()
    free.CopyFrom(model)
    weights = {tensor.name for tensor in free.graph.initializer}
    del free.graph.value_info[:]  # the shapes in between: whoever needs them works them out anew
    values = [*(value for value in free.graph.input if value.name not in weights), *free.graph.output]
    for number, value in enumerate(values):
        dimensions = value.type.tensor_type.shape.dim
        for place, axis in enumerate(axes):
            if axis < len(dimensions):
                dimensions[axis].dim_param = f"{words[place]}{number}"
    return free


def check_sizes(job: Job, model: onnx.ModelProto, free: onnx.ModelProto, sizes: Sequence[tuple[int, int]]) -> str:
    """Run the freed network at its own size and the smallest and largest others; says in words what was shown.

    Raises VendorError when it computes something else at its own size, or when an output does not scale with the input.
    """
    network, tensor = FloatNetwork(free), job.inputs[0]
    own = (tensor.shape[HEIGHT], tensor.shape[WIDTH])
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    tried = list(dict.fromkeys([own, ordered[0], ordered[-1]]))[:SIZES_TRIED]
    for height, width in tried:
        image = _noise((*tensor.shape[:HEIGHT], height, width))
        outputs = network.run({tensor.name: image})
        if (height, width) == own:
            _check_equal(FloatNetwork(model).run({tensor.name: image}), outputs, "taking the sizes out of the graph")
        for output in job.outputs:
            expected = output.shape
            if len(expected) == 4:
                scaled = (expected[HEIGHT] * height / own[0], expected[WIDTH] * width / own[1])
                expected = (*expected[:HEIGHT], *scaled)
            if outputs[output.name].shape != expected or not np.isfinite(outputs[output.name]).all():
                raise VendorError(
                    f"at {height}x{width} output {output.name} is of shape {list(outputs[output.name].shape)}, not "
                    f"{[round(size, 2) for size in expected]}, or not finite",
                    "the network cannot take that size: remove it from model.yaml's sizes, or leave DYNAMIC= out",
                )
    shown = ", ".join(f"{height}x{width}" for height, width in tried)
    return f"the graph without sizes computes in onnxruntime what the fixed one does, and runs at {shown}"


def check_batches(job: Job, model: onnx.ModelProto, free: onnx.ModelProto) -> str:
    """Run the freed network on one and on two images at once; says in words what was shown. Raises VendorError when
    the two do not agree, image by image, with the fixed network."""
    tensor = job.inputs[0]
    fixed, network = FloatNetwork(model), FloatNetwork(free)
    images = _noise((2 * job.batch, *tensor.shape[1:]))
    together = network.run({tensor.name: images})
    for start in (0, job.batch):
        alone = fixed.run({tensor.name: images[start : start + job.batch]})
        part = {name: array[start : start + job.batch] for name, array in together.items()}
        _check_equal(alone, part, "taking the batch out of the graph")
    return f"the graph without a batch computes in onnxruntime what the fixed one does, {2 * job.batch} images at once"


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _check_equal(expected: dict[str, np.ndarray], found: dict[str, np.ndarray], doing: str) -> None:
    for name, array in expected.items():
        allowed = NEAR * max(float(np.abs(array).max()), 1e-6)
        if found[name].shape != array.shape or float(np.abs(found[name] - array).max()) > allowed:
            raise VendorError(f"{doing} changes what output {name} is", "leave DYNAMIC= out")
