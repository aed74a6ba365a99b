"""The .om of the doubles: the line that says so, a JSON line, and the ONNX that it computes.

The JSON has: soc, command, input {name, shape, pixels, aipp}, sizes [[h, w]], batches [n], outputs [{node, name}].
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

FIRST_LINE = b"NPUMAKE DOUBLE: not an artifact\n"
HALF = np.float16


@dataclass
class Om:
    """A double's .om, opened."""

    header: dict[str, Any]
    model: onnx.ModelProto

    def write(self, path: Path) -> None:
        line = json.dumps(self.header).encode() + b"\n"
        path.write_bytes(FIRST_LINE + line + self.model.SerializeToString())

    def shape(self, batch: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The input's NCHW shape for a batch and a (height, width)."""
        return (batch, self.header["input"]["shape"][1], *size)

    def batches(self) -> list[int]:
        return self.header["batches"] or [self.header["input"]["shape"][0]]

    def sizes(self) -> list[tuple[int, int]]:
        return [tuple(size) for size in self.header["sizes"] or [self.header["input"]["shape"][2:]]]

    def output_names(self) -> list[str]:
        """As an .om names them: node, index, ONNX name (pyACL API reference, get_output_name_by_index)."""
        return [f"{output['node']}:0:{output['name']}" for output in self.header["outputs"]]

    def compute(self, image: np.ndarray) -> list[np.ndarray]:
        """The outputs, float32, for one input of the .om's own type and layout. Weights and inputs in float16, as the
        chip has them."""
        data = image
        if self.header["input"]["pixels"]:
            aipp = self.header["input"]["aipp"]
            pixels = image.astype(HALF)
            channels = []
            for index in range(3):  # (x - mean - min) * var_reci, in float16 (ATC tool, AIPP configuration file)
                value = pixels[..., index] - HALF(aipp["mean_chn"][index]) - HALF(aipp["min_chn"][index])
                channels.append((value * HALF(aipp["var_reci_chn"][index])).astype(np.float32))
            data = np.stack(channels, axis=1)
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(HALF).astype(np.float32), tensor.name))
        found = run_network(model, self.header["input"]["name"], data.astype(HALF).astype(np.float32))
        return [array.astype(HALF).astype(np.float32) for array in found]


def read_om(path: str | Path) -> Om:
    """Open a double's .om. Raises ValueError for anything else."""
    data = Path(path).read_bytes()
    if not data.startswith(FIRST_LINE):
        raise ValueError(f"{path} is no .om of a double")
    line, _, rest = data[len(FIRST_LINE) :].partition(b"\n")
    return Om(json.loads(line), onnx.load_from_string(rest))


def with_shape(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """A copy with this shape of its input, and free outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    for value in copy.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.Clear()
    return copy


def run_network(model: onnx.ModelProto, name: str, data: np.ndarray) -> list[np.ndarray]:
    """The network's outputs for one input of whatever shape."""
    import onnxruntime  # here: atc seldom computes, and is started often

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    fixed = with_shape(model, name, data.shape).SerializeToString()
    return onnxruntime.InferenceSession(fixed, options, providers=["CPUExecutionProvider"]).run(None, {name: data})


def output_shapes(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> list[list[int]]:
    """The shapes of the outputs for an input's shape. Raises onnx's InferenceError where the graph cannot take it."""
    inferred = onnx.shape_inference.infer_shapes(with_shape(model, name, shape), strict_mode=True, data_prop=True)
    return [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in inferred.graph.output]
