"""The network as ONNX: reading it, what CANN's parser refuses, and running it in float for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from failure import VendorError
from google.protobuf.message import DecodeError
from job_file import Job

STANDARD_DOMAINS = ("", "ai.onnx")
NEWEST_IR = 8
FLOAT16_LARGEST = 65504.0
HELD_BYTES = 800_000_000  # of intermediate tensors that are looked at in one run
# What AMCT makes int8 (AMCT (ONNX), layers that support quantisation); for the last two with constant weights only.
QUANTISABLE = ("Conv", "ConvTranspose", "AveragePool", "Gemm", "MatMul")


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and check what CANN's parser wants. Raises VendorError that says what is wrong with it."""
    again = "run make again: it writes the fixed graph"
    try:
        model = onnx.load(str(path))
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", again) from None
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise VendorError(f"{path} is no readable ONNX file ({error})", again) from None
    if not model.graph.node or not model.graph.output:
        raise VendorError(f"{path} is no readable ONNX file (it has no nodes, or no outputs)", again)
    domains = sorted({entry.domain for entry in model.opset_import} - set(STANDARD_DOMAINS))
    if domains or len(model.opset_import) != 1:
        raise VendorError(
            f"{path} names {len(model.opset_import)} operator sets ({', '.join(domains) or 'one twice'}): atc reads "
            "one, and answers E16005",
            "export it with torch.onnx.export(..., dynamo=False)",
        )
    if model.ir_version > NEWEST_IR:
        raise VendorError(f"{path} is of IR version {model.ir_version}, newer than {NEWEST_IR}", again)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    return int(model.opset_import[0].version)


def quantisable_nodes(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that AMCT makes int8, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTISABLE and (node.op_type == "AveragePool" or node.input[1] in constants)
    ]


class FloatNetwork:
    """The network in float32 by onnxruntime."""

    def __init__(self, model: onnx.ModelProto):
        """Raises VendorError when onnxruntime refuses the model."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 2
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no common parent
            raise VendorError(
                f"onnxruntime cannot read the network: {str(error).splitlines()[0]}",
                "run make again: the fix step checks it",
            ) from None
        self.names = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 by input name in, arrays by output name out. Raises VendorError for a shape that cannot be run."""
        try:
            found = self._session.run(self.names, inputs)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise VendorError(
                f"onnxruntime cannot run the network on {shapes}: {str(error).splitlines()[0]}",
                "leave DYNAMIC= out, or remove that size from model.yaml's sizes",
            ) from None
        return {name: found[index] for index, name in enumerate(self.names)}


def _groups(model: onnx.ModelProto) -> list[list[str]]:
    """The names of all float tensors that the network computes, in groups that do not take too much memory at once."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    groups: list[list[str]] = [[]]
    held = 0
    for value in (*graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == onnx.TensorProto.FLOAT:
            size = 4 * int(np.prod([dimension.dim_value or 1 for dimension in kind.shape.dim]))
            if held and held + size > HELD_BYTES:
                groups.append([])
                held = 0
            groups[-1].append(value.name)
            held += size
    return groups


def float16_range(model: onnx.ModelProto, job: Job, samples: Sequence[dict[str, np.ndarray]]) -> tuple[str, bool]:
    """Whether float16 can hold all that the network computes on the samples: (in words, whether it can).

    The NPU computes in float16 and nothing here simulates it; but what overflows there overflows whatever the rounding.
    """
    worst, where = 0.0, job.outputs[0].name
    for names in _groups(model):
        observed = onnx.ModelProto()
        observed.CopyFrom(model)
        del observed.graph.output[:]
        observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        network = FloatNetwork(observed)
        for sample in samples:
            for name, array in network.run(sample).items():
                largest = max(float(array.max()), -float(array.min())) if array.size else 0.0
                if not largest <= worst:  # NaN counts as the worst
                    worst, where = largest, name
    told = f"the largest value on {len(samples)} samples in float is {worst:.4g}, in {where}"
    fits = worst < FLOAT16_LARGEST
    return f"{told}; float16 ends at {FLOAT16_LARGEST:.0f}", fits
