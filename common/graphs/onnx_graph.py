"""ONNX files: checked where they enter, described, and run in onnxruntime.

Everything here works on graphs that people really bring: old opsets, weights listed among the inputs, attributes that
today's runtimes no longer take. load_onnx() refuses what cannot be right; runnable() makes an odd graph run, in memory,
without changing what it computes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from common.basics.errors import UserError
from common.basics.file_kinds import refuse_other_kinds
from common.basics.wording import listed, shape_text

ONNX_HINT = "is it an ONNX file, and complete? compare its size with the original's"
NEWEST_RUNNABLE_IR = 10  # onnxruntime 1.23 reads IR 11 at most; the IR version is the container's, not the arithmetic's


class GraphTensor(NamedTuple):
    """An input or output of a graph. shape: int, or str for a dimension without a fixed size; dtype: numpy's name."""

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str


def load_onnx(path: str | os.PathLike) -> onnx.ModelProto:
    """Read and check an ONNX file, weights in separate files included.

    Raises UserError when the file is missing, empty, truncated, another format, has no nodes, refers to weight files
    that are not there, breaks the ONNX rules, or holds NaN or infinite weights (each with the tensor's name).
    """
    path = Path(path)
    refuse_other_kinds(path, "ONNX", but={"onnx"})
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except DecodeError:
        raise UserError(f"{path} is not ONNX, or is truncated: it cannot be parsed", ONNX_HINT) from None
    if not model.HasField("graph") or not model.graph.node:
        raise UserError(f"{path} holds no graph with nodes", ONNX_HINT)
    if not model.opset_import:
        raise UserError(f"{path} names no opset: it is truncated or was not made by an ONNX exporter", ONNX_HINT)
    _load_external_weights(model, path)
    _check_weights(model, path)
    _check_rules(model, path)
    return model


def _load_external_weights(model: onnx.ModelProto, path: Path) -> None:
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        names = {
            entry.value
            for tensor in tensors(model)
            if external_data_helper.uses_external_data(tensor)
            for entry in tensor.external_data
            if entry.key == "location"
        }
        reason = f"{path} keeps weights in {', '.join(sorted(names)) or 'another file'}, which cannot be read"
        raise UserError(
            f"{reason}: {_first_line(error)}", "put that file beside it, or export with the weights inside"
        ) from None


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every weight or constant of the main graph; a Constant's tensor has the name of the node's output."""
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    if not attribute.t.name:
                        attribute.t.name = node.output[0]
                    yield attribute.t


def _check_weights(model: onnx.ModelProto, path: Path) -> None:
    bad = []
    for tensor in tensors(model):
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: weights '{tensor.name}' are damaged: {_first_line(error)}", ONNX_HINT) from None
        if values.dtype.kind != "f":
            continue
        # A single infinity is a legitimate bound (Clip); among weights it is damage.
        if np.isnan(values).any() or (values.size > 1 and np.isinf(values).any()):
            bad.append(tensor.name)
    if bad:
        raise UserError(
            f"{path}: NaN or infinite values in the weights of {len(bad)} tensors: {listed(bad)}",
            "the training diverged or the file was damaged: take an earlier checkpoint",
        )


def _check_rules(model: onnx.ModelProto, path: Path) -> None:
    """onnx.checker, once more on the cleaned graph where an old exporter's slips are all that it found."""
    try:
        onnx.checker.check_model(model)
        return
    except onnx.checker.ValidationError:
        pass
    try:
        onnx.checker.check_model(runnable(model))
    except onnx.checker.ValidationError as error:
        raise UserError(
            f"{path} breaks the rules of ONNX: {_first_line(error)}", "export it again, with opset 11"
        ) from None


def graph_inputs(model: onnx.ModelProto) -> list[GraphTensor]:
    """What must be fed: the graph's inputs without the weights that old exporters list among them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_describe(value) for value in model.graph.input if value.name not in weights]


def graph_outputs(model: onnx.ModelProto) -> list[GraphTensor]:
    """The graph's outputs, in its order."""
    return [_describe(value) for value in model.graph.output]


def _describe(value: onnx.ValueInfoProto) -> GraphTensor:
    kind = value.type.tensor_type
    shape: tuple[int | str, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in kind.shape.dim)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError:
        dtype = "unknown"
    return GraphTensor(value.name, shape, dtype)


def static_hint(path: str, shape: list[int] | None = None) -> str:
    """The command that gives the file's input a fixed shape; shape: the one wanted, where it is known."""
    sizes = ",".join(map(str, shape)) if shape else "1,3,HEIGHT,WIDTH"
    return f"make it static: .venv/common/bin/python -m common.make_static {path} static.onnx {sizes}"


def check_static(model: onnx.ModelProto, where: str, shape: list[int] | None = None) -> None:
    """Raises UserError that names the first input dimension without a fixed size; shape: the one to hint at."""
    for tensor in graph_inputs(model):
        if tensor.shape is None:
            raise UserError(f"{where}: input '{tensor.name}' has no shape", static_hint(where, shape))
        for index, size in enumerate(tensor.shape):
            if isinstance(size, str):
                raise UserError(
                    f"{where}: input '{tensor.name}' is {shape_text(tensor.shape)}: its dimension {index} ('{size}') "
                    "is dynamic, and a chip's compiler needs a fixed size",
                    static_hint(where, shape),
                )


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator, most frequent first."""
    counts = Counter(node.op_type for node in model.graph.node)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operator set; 1 where the graph names none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the oddities that today's onnxruntime refuses; what it computes is the same.

    Names that two nodes share go, weights leave the inputs, BatchNormalization loses `spatial=0` where its statistics
    are per channel, and an IR version newer than the runtime's is written as an older one. The fix passes of the same
    names do just this.
    """
    from common.fixes import batchnorm_spatial, duplicate_names, weights_as_inputs  # they import nothing of this module

    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    for fix_pass in (duplicate_names, weights_as_inputs, batchnorm_spatial):
        clean, _ = fix_pass.apply(clean, None)
    clean.ir_version = min(clean.ir_version, NEWEST_RUNNABLE_IR)
    return clean


class Runner:
    """A graph loaded once in onnxruntime (float32, CPU, 2 threads within an operator), to be run on many samples.

    source: a path, serialized bytes, or a ModelProto. as_it_came: run the graph without runnable()'s clean-ups.
    threads: within an operator.
    Raises UserError when onnxruntime refuses the graph.
    """

    def __init__(self, source: str | os.PathLike | bytes | onnx.ModelProto, as_it_came: bool = False, threads: int = 2):
        import onnxruntime

        if isinstance(source, onnx.ModelProto):
            model = source
        elif isinstance(source, bytes):
            model = onnx.load_model_from_string(source)
        else:
            model = load_onnx(source)
        self.inputs, self.outputs = graph_inputs(model), graph_outputs(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait by spinning steal the processor from whatever else make -j runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # errors come as exceptions; their coloured copies on stderr help nobody
        serialized = (model if as_it_came else runnable(model)).SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"onnxruntime cannot load the graph: {_reason(error)}", "run preflight on it") from None

    def run(self, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{input name: [N, ...]} -> {output name: [N, ...]}, one sample at a time through a graph of batch 1.

        Raises UserError for a missing or wrongly shaped input, and when onnxruntime fails.
        """
        self._check(samples)
        count = len(next(iter(samples.values())))
        collected: dict[str, np.ndarray] = {}
        for index in range(count):
            feed = {t.name: np.ascontiguousarray(samples[t.name][index : index + 1], t.dtype) for t in self.inputs}
            for name, value in self.run_once(feed).items():
                if name not in collected:
                    collected[name] = np.empty((count, *value.shape[1:]), value.dtype)
                collected[name][index : index + 1] = value
        return collected

    def run_once(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{input name: array of the graph's own shape and dtype} -> {output name: array}. UserError when it fails."""
        names = [output.name for output in self.outputs]
        try:
            values = self._session.run(names, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise UserError(f"onnxruntime cannot run the graph: {_reason(error)}", "run preflight on it") from None
        return dict(zip(names, values, strict=True))

    def _check(self, samples: dict[str, np.ndarray]) -> None:
        names = [tensor.name for tensor in self.inputs]
        if set(samples) != set(names):
            raise UserError(f"the samples are named {sorted(samples)}, but the graph's inputs are {sorted(names)}")
        if len({len(array) for array in samples.values()}) != 1 or not len(samples[names[0]]):
            raise UserError("the inputs hold no samples, or not the same number of them")
        for tensor in self.inputs:
            given = samples[tensor.name].shape
            expected = tensor.shape
            if expected is not None and (
                len(expected) != len(given)
                or any(isinstance(e, int) and e != g for e, g in zip(expected[1:], given[1:], strict=True))
            ):
                raise UserError(
                    f"input '{tensor.name}': samples are {shape_text(given)}, the graph wants {shape_text(expected)}"
                )


def run_onnx(
    source: str | os.PathLike | bytes | onnx.ModelProto, samples: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Load and run in one go: {input name: [N, ...]} -> {output name: [N, ...]}; see Runner."""
    return Runner(source).run(samples)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:240]


def _reason(error: Exception) -> str:
    """onnxruntime's message without its own prefix "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : "."""
    return _first_line(error).split(" : ", 3)[-1]
