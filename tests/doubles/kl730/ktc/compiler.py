"""ktc.compile [manual_5_nef.md]."""

from __future__ import annotations

from pathlib import Path

from ktc import double_file, rules
from ktc.model_config import ModelConfig


def compile(
    model_list, output_dir="/data1/kneron_flow", dedicated_output_buffer=True, weight_compress=False, flatbuffer=True,
    compiler_tiling="default", weight_bandwidth=None, dma_bandwidth=None,
):  # fmt: skip
    how = rules.told_to("compile")
    rules.absolute_folder("output_dir", output_dir)
    if any(type(flag) is not bool for flag in (dedicated_output_buffer, weight_compress, flatbuffer)):
        raise TypeError("dedicated_output_buffer, weight_compress and flatbuffer are bool")
    rules.one_of("compiler_tiling", compiler_tiling, ("default", "deep_search", "partial_graph_search"))
    if not isinstance(model_list, list) or len(model_list) != 1 or not isinstance(model_list[0], ModelConfig):
        raise TypeError("this double compiles a list of one ModelConfig")
    config = model_list[0]
    if config.bie is None:
        raise ValueError("batch compile before fix-point analysis")  # [manual_5_nef.md]
    made = Path(output_dir) / f"models_{config.platform}.nef"
    header, model = double_file.read(config.bie)
    if how == "empty":
        made.touch()
    elif how != "lie":
        double_file.write(made, header | {"kind": "nef"}, model)
    return str(made)
