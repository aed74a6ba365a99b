"""What `atc --mode=1` writes of an .om: the Graph Engine's ModelDef as JSON (GE source: ge_ir.proto, pb2json.cc)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from om_file import Om, output_shapes


def tensor(dtype: str, shape: list[int]) -> dict[str, Any]:
    return {"dtype": dtype, "layout": "NCHW" if len(shape) == 4 else "ND", "shape": {"dim": shape}}


def write_description(om: Om, path: Path) -> None:
    """Write the JSON. Free dimensions are -1 in the outer graph; the profiles are graphs of their own inside."""
    free = bool(om.header["sizes"] or om.header["batches"])
    name, shape = om.header["input"]["name"], om.header["input"]["shape"]
    kind = "DT_UINT8" if om.header["input"]["pixels"] else "DT_FLOAT"
    placed = [shape[0], *shape[2:], shape[1]] if om.header["input"]["pixels"] else shape
    batch, size = om.batches()[0], om.sizes()[0]
    ends = output_shapes(om.model, name, om.shape(batch, size))
    if om.header["sizes"]:
        ends = [[*end[:2], -1, -1] if len(end) == 4 else end for end in ends]
    if om.header["batches"]:
        ends = [[-1, *end[1:]] for end in ends]
    nodes = [
        {"name": name, "type": "Data", "input_desc": [tensor(kind, placed)], "output_desc": [tensor(kind, placed)]}
    ]
    graphs = []
    if free:
        gears = {"name": "ascend_mbatch_shape_data", "type": "Data", "output_desc": [tensor("DT_INT32", [2])]}
        inner = [f"network_Batch_{index}" for index in range(len(om.sizes()) * len(om.batches()))]
        nodes += [gears, {"name": "case", "type": "Case", "subgraph_name": inner}]
        ends_inside = {"name": "end", "type": "NetOutput", "input_desc": []}
        data_inside = {"name": "inner", "type": "Data", "output_desc": [tensor("DT_FLOAT", [1])]}
        graphs = [{"name": each, "op": [data_inside, ends_inside]} for each in inner]
    nodes.append({"name": "Node_Output", "type": "NetOutput", "input_desc": [tensor("DT_FLOAT", end) for end in ends]})
    content = {
        "name": "network",
        "graph": [{"name": "network", "op": nodes}, *graphs],
        "attr": [
            {
                "key": "attr_model_out_nodes_name",
                "value": {"list": {"s": om.output_names(), "val_type": "VT_LIST_STRING"}},
            },
            {"key": "soc_version", "value": {"s": om.header["soc"]}},
            {"key": "atc_cmdline", "value": {"s": om.header["command"]}},
        ],
    }
    path.write_text(json.dumps(content))
