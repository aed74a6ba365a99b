"""Give a graph's image input the fixed shape that a chip's compiler needs.

.venv/common/bin/python -m common.make_static dynamic.onnx static.onnx 1,3,256,192
"""

from __future__ import annotations

import argparse

import numpy as np
import onnx

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import replacing
from common.basics.wording import shape_text
from common.graphs.onnx_graph import graph_inputs, load_onnx, run_onnx


def make_static(model: onnx.ModelProto, shape: list[int]) -> onnx.ModelProto:
    """A copy whose one input has `shape`, and whose outputs have the sizes that a run with it gives.

    Raises UserError when a size that is fixed already disagrees, or the graph does not run at this shape.
    """
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        raise UserError(f"the graph has {len(inputs)} inputs: {', '.join(t.name for t in inputs)}; only one can be set")
    given = inputs[0].shape
    if given is not None and (
        len(given) != len(shape) or any(isinstance(g, int) and g != s for g, s in zip(given, shape, strict=True))
    ):
        raise UserError(f"input '{inputs[0].name}' is {shape_text(given)}: it cannot become {shape_text(shape)}")
    static = onnx.ModelProto()
    static.CopyFrom(model)
    value = next(value for value in static.graph.input if value.name == inputs[0].name)
    _set_shape(value, shape)
    del static.graph.value_info[:]
    sample = np.random.default_rng(0).standard_normal(shape).astype(inputs[0].dtype)
    outputs = run_onnx(static, {inputs[0].name: sample})
    for value in static.graph.output:
        _set_shape(value, list(outputs[value.name].shape))
    return static


def _set_shape(value: onnx.ValueInfoProto, shape: list[int]) -> None:
    kind = value.type.tensor_type
    kind.ClearField("shape")
    for size in shape:
        kind.shape.dim.add().dim_value = size


def main() -> None:
    """python -m common.make_static IN.onnx OUT.onnx N,C,H,W"""
    parser = argparse.ArgumentParser(description="give a graph's image input a fixed shape")
    parser.add_argument("source", help="an ONNX file with a dynamic input")
    parser.add_argument("target", help="the ONNX file to write")
    parser.add_argument("shape", help="as 1,3,256,192")
    arguments = parser.parse_args()
    try:
        shape = [int(size) for size in arguments.shape.replace("x", ",").split(",")]
    except ValueError:
        raise UserError(f"'{arguments.shape}' is not a shape", "write it as 1,3,256,192", USAGE_EXIT) from None
    static = make_static(load_onnx(arguments.source), shape)
    with replacing(arguments.target) as temporary:
        onnx.save(static, temporary)
    print(f"{arguments.target}: input {shape_text(shape)}")


if __name__ == "__main__":
    run(main)
