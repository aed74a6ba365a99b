"""Which name of TPU-MLIR's graphs stands for which tensor or node of the ONNX.

The converter names an operation after its ONNX output and operator, <output>_<operator>; an operation that was fused
has the name of the last node that went into it; quantising adds casts with names of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compiler_faults import load_graph
from failure import VendorError
from job_file import Job

_NO_LAYERS = ("top.Input", "tpu.Cast", "tpu.Unsqueeze", "top.Weight")


@dataclass(frozen=True)
class Operation:
    """One operation of a graph. precision: int8, int16, float16, bfloat16 or float32, as its output is stored."""

    name: str
    operator: str
    precision: str


def operations(graph: Path) -> list[Operation]:
    """The operations of a .mlir in its order, without inputs and casts."""
    from tpu_mlir.python.utils.mlir_parser import MlirParser  # starts in half a second: only where it is needed

    parser = MlirParser(str(graph))  # kept: its operations crash the process once it is gone
    return [
        Operation(operation.name, operation.type.partition(".")[2], _precision(str(operation.op.results[0].type)))
        for operation in parser.ops
        if operation.type not in _NO_LAYERS and operation.name
    ]


def _precision(type_text: str) -> str:
    """Of a type such as tensor<1x16x64x48x!quant.uniform<i8:f32, 0.02>> or tensor<1x3x8x8xbf16>."""
    marks = {"<i8:": "int8", "<u8:": "int8", "<i16:": "int16", "xbf16": "bfloat16", "xf16": "float16"}
    return next((name for mark, name in marks.items() if mark in type_text), "float32")


def output_names(job: Job, compiled: list[str]) -> dict[str, str]:
    """{ONNX output: its name in the compiled graph}. compiled: the graph's outputs in its own order.

    Raises VendorError when they do not belong together.
    """
    found = {}
    for tensor in job.outputs:
        fitting = [name for name in compiled if name.startswith(f"{tensor.name}_")]
        # "a" and "a_b" may both be outputs: the name with the shorter rest is <output>_<operator>.
        fitting = [name for name in fitting if name not in found.values()]
        found[tensor.name] = min(fitting, key=len, default="")
    if "" in found.values() or len(found) != len(compiled) or set(found.values()) != set(compiled):
        # Fused or renamed outputs keep the order of the ONNX graph's outputs.
        if len(compiled) != len(job.outputs):
            raise VendorError(
                f"the compiled network has outputs {', '.join(compiled)}, and the ONNX "
                f"{', '.join(tensor.name for tensor in job.outputs)}",
                "cut the graph so that every output is the result of an operator of its own",
            )
        return {tensor.name: name for tensor, name in zip(job.outputs, compiled, strict=True)}
    return found


def onnx_outputs(job: Job) -> dict[str, str]:
    """{name that the converter gives: ONNX tensor} for every node of the job's graph."""
    nodes = load_graph(job)[0].graph.node
    return {f"{output}_{node.op_type}": output for node in nodes for output in node.output}


def kept_float_names(job: Job, names: set[str]) -> list[str]:
    """The operations that compute the nodes of KEEP_FLOAT=: for a node that was fused, the operation it is part of.

    names: those of the top graph's operations. Raises VendorError when a node is in no operation.
    """
    nodes = load_graph(job)[0].graph.node
    readers: dict[str, list] = {}
    for node in nodes:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    by_output = {output: node for node in nodes for output in node.output}
    found: dict[str, None] = {}
    for kept in job.keep_float:
        # Breadth first along the readers: what a node was fused into comes soon after it.
        # (By name as well: compiler_faults.py may have put a second node behind it.)
        waiting = [node for node in nodes if node.name == kept.node]
        waiting += [node for node in map(by_output.get, kept.outputs) if node is not None and node not in waiting]
        seen: set[str] = set()
        hit = False
        while waiting and not hit:
            following = []
            for node in waiting:
                own = [name for name in (f"{output}_{node.op_type}" for output in node.output) if name in names]
                found.update(dict.fromkeys(own))
                hit = hit or bool(own)
                for output in node.output:
                    for reader in readers.get(output, []):
                        if reader.name not in seen:
                            seen.add(reader.name)
                            following.append(reader)
            waiting = following
        if not hit:
            raise VendorError(
                f"KEEP_FLOAT: {kept.operator} {kept.node} is no operation of the compiled graph",
                "it was folded into constants or an output: name a convolution near it",
            )
    return list(found)
