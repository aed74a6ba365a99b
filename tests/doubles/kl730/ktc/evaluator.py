"""The text of the IP evaluator, in the form in which v0.23 printed it; the frames a second are a guess."""

from __future__ import annotations

import numpy as np
import onnx

from ktc.operators import on_cpu

MULTIPLICATIONS_A_SECOND = 0.2e12  # any number does: it is a double


def multiplications(model: onnx.ModelProto) -> float:
    """Of the convolutions: weights times output positions."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: np.prod(tensor.dims) for tensor in inferred.initializer}
    nodes = [node for node in inferred.node if node.op_type in ("Conv", "ConvTranspose")]
    return float(sum(weights.get(node.input[1], 0) * np.prod(shapes.get(node.output[0], [0])[2:]) for node in nodes))


def text_of(model: onnx.ModelProto, platform: str, given: dict[str, str]) -> str:
    kdp = f"kdp{platform}"
    milliseconds = 1000 * multiplications(model) / MULTIPLICATIONS_A_SECOND + 0.01
    if "int16" in (given["datapath_bitwidth_mode"], given["weight_bitwidth_mode"]):
        milliseconds *= 2
    nodes = [(node.name or f"node_{index}", node.op_type) for index, node in enumerate(model.graph.node)]
    cpu = [name for name, operator in nodes if on_cpu(operator, platform)]
    lines = [
        "Npu performance evaluation result:",
        "docker_version: double",
        "comments:",
        f"{kdp}/input bitwidth: {given['model_in_bitwidth_mode']}",
        f"{kdp}/output bitwidth: {given['model_out_bitwidth_mode']}",
        f"{kdp}/datapath bitwidth: {given['datapath_bitwidth_mode']}",
        f"{kdp}/weight bitwidth: {given['weight_bitwidth_mode']}",
        f"{kdp}/ip_eval/fps: {1000 / milliseconds:.6g}",
        f"{kdp}/ip_eval/ITC(ms): {milliseconds:.6g} ms",
        f"{kdp}/cpu_node: {', '.join(cpu) or 'N/A'}",
        "gen fx model report: model_fx_report.html",
        "",
        ", node, node origin, type, node backend,",
    ]
    for index, (name, _) in enumerate(nodes):
        kind = "CPU" if name in cpu else "NPU"
        lines.append(f"{index}, {name}, {name}, {kind}, {kind.lower()}_fusion_node_{name},")
    return "\n".join(lines) + "\n"
