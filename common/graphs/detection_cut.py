"""Cut a YOLOv8's ONNX before its decode, at the head convolutions, and prove that nothing is lost.

    ... -> Conv 64 --- Reshape, Concat -> Reshape -> Softmax -> Conv 16 to 1 (DFL) -> Sub, Add ... -+
    ... -> Conv 80 --- Reshape, Concat -> Sigmoid --------------------------------------------------+-> Concat 1x84x8400
                    |
                   cut: what lies after it mixes pixels and probabilities in one tensor, which no 8-bit scale can
                        hold, and uses operators that chips lack; it is decoded on the host (detection_decode.py)

The convolutions are found by walking back from the graph's outputs. Names differ from exporter to exporter and are not
looked at. The outputs get short ones, box_8, class_8, keypoints_8, box_16 ...: the exporter's own
(/model.22/cv2.0/cv2.0.2/Conv_output_0) say nothing to a reader, and slashes trouble the vendors' tools.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.declarations.spec import ModelSpec
from common.decoding.detection_decode import decode_everything
from common.decoding.detection_head import EXPORT_HINT, head_levels, role_channels
from common.fixes import remove_unused
from common.graphs.onnx_graph import Runner, graph_inputs, graph_outputs

# Two float32 runtimes add in different orders; measured on YOLOv8n: 1e-6.
TOLERANCE = 1e-4


def cut_detection_head(model: onnx.ModelProto, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, str]:
    """The graph up to its head convolutions, in the order of strides: box, class (, keypoints) of each.

    model: checked by load_onnx(), its input that of the spec; it is not changed. where: names it in messages.
    Returns (graph, what was cut off, in words). A graph whose outputs are those convolutions already comes back as it
    is, the same object.
    Raises UserError, with what was found and what is expected, for suppression within the graph and for another head.
    """
    _refuse_suppression(model, spec, where)
    tensors = head_tensors(model)
    if not tensors:
        raise UserError(f"{where} has no convolution before its outputs", EXPORT_HINT.format(size=_size(spec)))
    pruned = ending_at(model, tensors)
    # Run once: the shapes are known then, however little the exporter noted and shape inference finds.
    outputs = Runner(pruned).run({graph_inputs(model)[0].name: np.zeros(spec.input.shape, np.float32)})
    shapes = {name: outputs[name].shape for name in tensors}
    levels = head_levels(shapes, spec, where)
    if set(tensors) == {tensor.name for tensor in graph_outputs(model)}:
        return model, f"ends at its {len(tensors)} head convolutions already"
    names = {}
    for level in levels:
        names |= {level.box: f"box_{level.stride}", level.classes: f"class_{level.stride}"}
        if level.keypoints:
            names[level.keypoints] = f"keypoints_{level.stride}"
    names = _unused(names, pruned)
    _rename(pruned, names)
    del pruned.graph.output[:]
    for old, new in names.items():
        pruned.graph.output.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, shapes[old]))
    onnx.checker.check_model(pruned)
    removed = len(model.graph.node) - len(pruned.graph.node)
    return pruned, (
        f"cut before its decode, at its {len(tensors)} head convolutions; {removed} of {len(model.graph.node)} nodes "
        "went, and their work is done on the host"
    )


def prove_cut(
    original: onnx.ModelProto, cut: onnx.ModelProto, samples: dict[str, np.ndarray], spec: ModelSpec, where: str
) -> dict[str, Any]:
    """What the original says against what the host decodes from the cut graph's outputs, before suppression.

    samples: {input: float32 [N, 3, H, W]}. The original may give Ultralytics' one output 1 x (4 + classes + 3 K) x
    cells, the same transposed, its parts one by one, boxes as corners, or the scores of each stride.
    Returns {"max_abs", "tolerance": of the kind that differs most, relative to its largest value; "kind"; "relative":
    {kind: difference over its largest value}; "samples"; "not_compared": names of other outputs}.
    Raises UserError above the tolerance, and when the original says nothing that could be compared.
    """
    heads, own = Runner(cut).run(samples), Runner(original).run(samples)
    decoded = decode_everything(heads, spec, where)
    centres, sizes = decoded[:, :2], decoded[:, 2:4]
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2, decoded[:, 4:]], axis=1)
    comparisons = [_differences(own, _quantities(form, heads, spec)) for form in (decoded, corners)]
    differences, compared = min(comparisons, key=lambda pair: _worst(pair[0])[1])
    kinds = role_channels(spec)
    if not all(kind in differences for kind in kinds):
        missing = ", ".join(kind for kind in kinds if kind not in differences)
        shapes = ", ".join(f"{name} {shape_text((1, *value.shape[1:]))}" for name, value in own.items())
        raise UserError(
            f"{where} gives {shapes}: nothing there tells whether its {missing} is decoded as YOLOv8's",
            EXPORT_HINT.format(size=_size(spec)),
        )
    kind, relative = _worst(differences)
    max_abs, largest = differences[kind]
    if not relative <= TOLERANCE:  # NaN must not pass
        raise UserError(
            f"{where}: its own {kind} values and those decoded from its head differ by {max_abs:.3g} "
            f"({TOLERANCE * largest:.3g} is allowed, of {largest:.3g})",
            "its decode is not YOLOv8's: " + EXPORT_HINT.format(size=_size(spec)),
        )
    return {
        "max_abs": max_abs,
        "tolerance": TOLERANCE * largest,
        "kind": kind,
        "relative": {name: pair[0] / pair[1] for name, pair in differences.items()},
        "samples": len(decoded),
        "not_compared": sorted(own.keys() - compared),
    }


def _quantities(decoded: np.ndarray, heads: dict[str, np.ndarray], spec: ModelSpec) -> list[dict[str, np.ndarray]]:
    """What an output may be, each as {kind: values}: all that is decoded, one kind of it, or that of one stride."""
    from scipy.special import expit  # here: it takes a moment to import, and only detectors are cut

    ends = np.cumsum([4, *list(role_channels(spec).values())[1:]])
    parts = dict(zip(role_channels(spec), np.split(decoded, ends[:-1], axis=1), strict=True))
    options = [parts, *({kind: part} for kind, part in parts.items())]
    for level in head_levels({name: value.shape for name, value in heads.items()}, spec, spec.name):
        options += [{"box": heads[level.box]}, {"class": expit(heads[level.classes])}]
        if level.keypoints:
            options.append({"keypoints": heads[level.keypoints]})
    return options


def _differences(
    own: dict[str, np.ndarray], options: list[dict[str, np.ndarray]]
) -> tuple[dict[str, tuple[float, float]], set[str]]:
    """{kind: (largest difference, largest value)} over the outputs that have the shape of an option; their names."""
    found: dict[str, tuple[float, float]] = {}
    compared = set()
    for name, value in own.items():
        for turned in (value, value.swapaxes(1, 2)) if value.ndim == 3 else (value,):
            fitting = [option for option in options if _shape(option) == turned.shape]
            if not fitting:
                continue
            compared.add(name)
            start = 0
            for kind, expected in fitting[0].items():
                part = turned[:, start : start + expected.shape[1]]
                start += expected.shape[1]
                # A score's scale is 0..1, however small the scores of an untrained network are.
                before = found.get(kind, (0.0, 1.0 if kind == "class" else 1e-30))
                difference, largest = float(np.abs(part - expected).max()), float(np.abs(part).max())
                # np.maximum hands NaN on, max() does not.
                found[kind] = (float(np.maximum(before[0], difference)), float(np.maximum(before[1], largest)))
            break
    return found, compared


def _shape(option: dict[str, np.ndarray]) -> tuple[int, ...]:
    shapes = [values.shape for values in option.values()]
    return (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])


def _worst(differences: dict[str, tuple[float, float]]) -> tuple[str, float]:
    """The kind that differs most, relative to its largest value; NaN is the worst."""
    relative = {kind: pair[0] / pair[1] for kind, pair in differences.items()} or {"": np.inf}
    return max(relative.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1])


def _size(spec: ModelSpec) -> int:
    return max(spec.input.height, spec.input.width)


def _refuse_suppression(model: onnx.ModelProto, spec: ModelSpec, where: str) -> None:
    inside = sorted({node.op_type for node in model.graph.node if "NMS" in node.op_type.upper()
                     or node.op_type in ("NonMaxSuppression", "TopK")})  # fmt: skip
    if not inside:
        return
    outputs = ", ".join(f"{tensor.name} {shape_text(tensor.shape)}" for tensor in graph_outputs(model))
    raise UserError(
        f"{where} suppresses overlapping boxes itself ({', '.join(inside)}; its outputs: {outputs}); expected is the "
        "network alone, as the host suppresses",
        EXPORT_HINT.format(size=_size(spec)) + " (a YOLOv10 or YOLO26: end2end=False too)",
    )


def head_tensors(model: onnx.ModelProto) -> list[str]:
    """The outputs of the last convolutions on each way back from the graph's outputs, those of the DFL left out."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = _constants(model)
    waiting, seen, heads = [value.name for value in model.graph.output], set(), []
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in ("Conv", "ConvTranspose") and not _is_dfl(node, weights):
            heads.append(_with_bias(node, readers, weights))
        else:
            waiting.extend(node.input)
    return list(dict.fromkeys(heads))


def _constants(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Weights and constants by name; torch's exporter hands one that occurs twice on through an Identity."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _is_dfl(node: onnx.NodeProto, weights: dict[str, TensorProto]) -> bool:
    """Distribution focal loss's fixed convolution, the expectation over the bins: weights 0, 1, 2, ... to 1 channel."""
    kernel = weights.get(node.input[1])
    if kernel is None or len(kernel.dims) != 4 or kernel.dims[0] != 1 or list(kernel.dims[2:]) != [1, 1]:
        return False
    return bool(np.array_equal(numpy_helper.to_array(kernel).reshape(-1), np.arange(kernel.dims[1])))


def _with_bias(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]], weights: dict[str, TensorProto]) -> str:
    """The convolution's output, or that of an Add of a constant that alone reads it: a bias written separately."""
    name = node.output[0]
    following = readers.get(name, [])
    if len(following) == 1 and following[0].op_type == "Add":
        other = [value for value in following[0].input if value != name]
        if other and other[0] in weights:
            return following[0].output[0]
    return name


def ending_at(model: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """A copy with these tensors as its outputs, of unknown shape, and without the nodes that nobody needs then."""
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    del pruned.graph.output[:]
    for name in tensors:
        pruned.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    # Notes on shapes are the exporter's; those of the outputs would now stand twice.
    del pruned.graph.value_info[:]
    return remove_unused.apply(pruned, None)[0]


def _unused(names: dict[str, str], model: onnx.ModelProto) -> dict[str, str]:
    """The new names, with underscores behind those that something else in the graph bears already."""
    taken = {name for node in model.graph.node for name in node.output} - names.keys()
    taken |= {tensor.name for tensor in [*model.graph.initializer, *model.graph.input]}
    unused = {}
    for old, new in names.items():
        while new in taken:
            new += "_"
        unused[old] = new
    return unused


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.get(name, name)
