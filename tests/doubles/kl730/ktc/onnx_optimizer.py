"""[manual_3_onnx.md, 3.1.5]: the older optimiser. It marks the graph as kneronnxopt does."""

from __future__ import annotations

import onnx

from ktc.graph_rules import check_graph, mark_optimised
from ktc.rules import told_to


def onnx2onnx_flow(m: onnx.ModelProto, opt_matmul: bool = False, duplicate_shared_weights: bool = False):
    told_to("onnx2onnx_flow")
    if type(opt_matmul) is not bool or type(duplicate_shared_weights) is not bool:
        raise TypeError("opt_matmul and duplicate_shared_weights are bool")
    check_graph(m)
    return mark_optimised(m, "onnx2onnx_flow")
