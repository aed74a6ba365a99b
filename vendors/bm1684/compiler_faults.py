"""What TPU-MLIR 1.30.2 is known to compile wrongly, and how the graph is written instead before it sees it.

Found by building every operator alone and comparing the BModel with the quantised graph:

    BM1684: a ConvTranspose with a bias. The quantised graph is right, but in the BModel the bias is lost (float32,
    where the layer stands alone) or spoils the sum (int8, everywhere: cosine 0.1 to 0.5; kernels 3 and 4, stride 2,
    grouped or not). With the bias as an Add of its own all are right. The BM1684X has no such fault.

model_deploy's own comparison stops such a build, so nothing wrong would come out; but the network would not compile.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from job_file import Job
from onnx import helper, numpy_helper

BIASED_INPUTS = 3


def load_graph(job: Job) -> tuple[onnx.ModelProto, bool]:
    """The job's ONNX as it is given to TPU-MLIR; and whether it was written otherwise than in the file."""
    model = onnx.load(str(job.graph))
    return model, job.chip == "bm1684" and split_biases(model) > 0


def split_biases(model: onnx.ModelProto) -> int:
    """Turn every ConvTranspose with a constant bias into one without, and an Add; how many there were.

    The Add has the output's name, the ConvTranspose keeps the node's name.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, changed = [], 0
    for node in graph.node:
        nodes.append(node)
        bias = node.input[BIASED_INPUTS - 1] if len(node.input) >= BIASED_INPUTS else ""
        if node.op_type != "ConvTranspose" or bias not in constants or node.input[1] not in constants:
            continue
        values = numpy_helper.to_array(constants[bias])
        ones = [1] * (len(constants[node.input[1]].dims) - 2)
        output = node.output[0]
        plain, shaped = f"{output}.without_bias", f"{output}.bias"
        graph.initializer.append(numpy_helper.from_array(values.reshape(1, -1, *ones), shaped))
        del node.input[BIASED_INPUTS - 1 :]
        node.output[0] = plain
        nodes.append(helper.make_node("Add", [plain, shaped], [output], f"{node.name}.bias"))
        changed += 1
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def write_graph(job: Job, path: Path) -> None:
    """Put the graph for TPU-MLIR at `path`: a link to the job's own file where nothing has to be written otherwise."""
    model, changed = load_graph(job)
    path.unlink(missing_ok=True)
    if changed:
        onnx.save(model, str(path))
    else:
        path.symlink_to(job.graph.resolve())
