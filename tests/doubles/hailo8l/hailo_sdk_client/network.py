"""Hailo's own network (HN) made of an ONNX graph: layers of Hailo's names, which remember the ONNX nodes."""

import os
import re

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from hailo_sdk_client.model_translator.exceptions import (
    MisspellNodeError,
    ParsingWithRecommendationException,
    UnsupportedModelError,
)

FUSED = ("Relu", "Sigmoid", "LeakyRelu", "Clip", "BatchNormalization", "Identity")  # become part of the layer before
UNSUPPORTED = ("NonMaxSuppression", "TopK", "GatherElements", "Mod", "Expand", "NonZero")  # users' issue threads


def parse(path, net_name, end_node_names, net_input_shapes):
    """The part of the ONNX graph up to the end nodes, with the raw graph's names, and its HN dict."""
    model = shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    assert 11 <= opset <= 17, f"opset {opset}: 11 to 17 are used in public"
    assert model.ir_version <= 10, f"IR {model.ir_version} is newer than its onnxruntime 1.18 reads"
    inputs = {one.name: [size.dim_value for size in one.type.tensor_type.shape.dim] for one in graph.input}
    assert len(inputs) == 1, "one image is what this stand-in knows"
    # LUX, exporter.py: by input name, batch first, as in the ONNX.
    assert net_input_shapes == inputs, f"net_input_shapes {net_input_shapes}, and the graph has {inputs}"
    nodes = {node.name: node for node in graph.node}
    for name in end_node_names:
        if name not in nodes:
            raise MisspellNodeError(f"end node {name} is not in the graph. Did you mean {next(reversed(nodes))}?")
    needed = _needed(graph, end_node_names)
    _refuse(needed, end_node_names)
    tensors = {name: nodes[name].output[0] for name in end_node_names}
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:], kept.graph.output[:]
    kept.graph.node.extend(needed)
    shapes = {
        one.name: [size.dim_value for size in one.type.tensor_type.shape.dim]
        for one in [*graph.input, *graph.value_info, *graph.output]
    }
    for tensor in tensors.values():
        kept.graph.output.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, shapes[tensor]))
    hn = _layers(needed, net_name, next(iter(inputs)), shapes, end_node_names)
    return kept, hn, [tensors[name] for name in _order(end_node_names)]


def _order(end_node_names):
    """Not the asked order: the real one's is its own, and callers have to go by names."""
    return list(reversed(end_node_names))


def _needed(graph, ends):
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [next(node for node in graph.node if node.name == name) for name in ends]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node.name not in seen:
            seen.add(node.name)
            waiting += [makers[name] for name in node.input if name in makers]
    return [node for node in graph.node if node.name in seen]


def _refuse(needed, ends):
    asked = os.environ.get("HAILO_DOUBLE_RECOMMENDS", "")
    bad = [node for node in needed if node.op_type in UNSUPPORTED]
    recommended = asked.split(",") if asked and set(asked.split(",")) != set(ends) else []
    if bad or recommended:
        problems = "\n ".join(
            f"UnsupportedOperationError in op {n.name}: {n.op_type} operation is unsupported" for n in bad
        )
        if not recommended:
            raise UnsupportedModelError(problems)
        raise ParsingWithRecommendationException(
            f"Parsing failed. The errors found in the graph are:\n {problems}\n"
            f"Please try to parse the model again, using these end node names: {', '.join(recommended)}"
        )
    for node in needed:
        if any(dim <= 0 for attribute in node.attribute for dim in attribute.t.dims):
            raise UnsupportedModelError(f"{node.name} has an empty constant")


def _layers(needed, net_name, input_name, shapes, ends):
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", net_name), f"{net_name} is no word: layers are <net>/<layer>"
    made_by = {input_name: f"{net_name}/input_layer1"}
    layers = {
        f"{net_name}/input_layer1": {
            "type": "input_layer",
            "original_names": [input_name],
            "output_shapes": [_nhwc(shapes[input_name])],
            "input": [],
            "output": [],
        }
    }
    counts = {}
    for node in needed:
        source = made_by.get(node.input[0]) if node.input else None
        fusable = source in layers and layers[source]["type"] != "input_layer"
        if node.op_type in FUSED and fusable and layers[source]["original_names"][-1] not in ends:
            layers[source]["original_names"].append(node.name)
            made_by[node.output[0]] = source
            continue
        kind = {"Conv": "conv", "ConvTranspose": "deconv", "Add": "ew_add"}.get(node.op_type, node.op_type.lower())
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{net_name}/{kind}{counts[kind]}"
        layers[name] = {
            "type": kind,
            "original_names": [node.name],
            "output_shapes": [_nhwc(shapes[node.output[0]])],
            "input": [made_by[one] for one in node.input if one in made_by],
            "output": [],
        }
        for one in node.output:
            made_by[one] = name
    order = []
    last = {original: name for name, layer in layers.items() for original in layer["original_names"]}
    for number, end in enumerate(_order(ends), 1):
        source = last[end]
        order.append(source)
        layers[f"{net_name}/output_layer{number}"] = {
            "type": "output_layer",
            "original_names": ["out"],
            "output_shapes": layers[source]["output_shapes"],
            "input": [source],
            "output": [],
        }
    return {"name": net_name, "net_params": {"output_layers_order": order}, "layers": layers}


def _nhwc(shape):
    return [-1, *shape[2:], shape[1]] if len(shape) == 4 else [-1, *shape[1:]]


def normalised(model, mean, std):
    """The graph with (x - mean) / std in front of it, so that it takes raw pixels under the same input name."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    name = graph.input[0].name
    for node in graph.node:
        for index, one in enumerate(node.input):
            if one == name:
                node.input[index] = f"{name}.normalised"
    for word, values in (("mean", mean), ("std", std)):
        array = np.array(values, np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, f"{name}.{word}"))
    front = [
        helper.make_node("Sub", [name, f"{name}.mean"], [f"{name}.centred"], f"{name}.Sub"),
        helper.make_node("Div", [f"{name}.centred", f"{name}.std"], [f"{name}.normalised"], f"{name}.Div"),
    ]
    nodes = [*front, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return made
