"""A strict stand-in for kneronnxopt, the optimiser of Kneron's toolchain [manual_3_onnx.md, 3.1]."""

from __future__ import annotations

import onnx
from ktc.graph_rules import check_graph, mark_optimised
from ktc.rules import told_to

NPUMAKE_DOUBLE = True
__version__ = "double"


def optimize(
    model: onnx.ModelProto,
    duplicate_shared_weights=1,
    skip_check=False,
    overwrite_input_shapes=None,
    convert_f16=True,
    skipped_optimizers=None,
    skip_fuse_qkv=False,
    clear_descriptions=False,
    opt_matmul=False,
    clear_shapes=False,
    replace_avgpool_with_conv=False,
    replace_dilated_conv=False,
    defuse_gaps=False,
) -> onnx.ModelProto:
    how = told_to("optimize")
    if duplicate_shared_weights not in (0, 1, 2):
        raise ValueError(f"duplicate_shared_weights {duplicate_shared_weights!r} is none of 0, 1, 2")
    flags = (skip_check, convert_f16, skip_fuse_qkv, clear_descriptions, opt_matmul, clear_shapes)
    if any(type(flag) is not bool for flag in (*flags, replace_avgpool_with_conv, replace_dilated_conv, defuse_gaps)):
        raise TypeError("the flags are bool")
    if overwrite_input_shapes is not None or skipped_optimizers is not None:
        raise NotImplementedError("this double takes neither overwrite_input_shapes nor skipped_optimizers")
    check_graph(model)
    made = mark_optimised(model, "kneronnxopt")
    if how == "rename":
        name = made.graph.output[-1].name
        made.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}_kn"], "kn"))
        made.graph.output[-1].name = f"{name}_kn"
    return made
