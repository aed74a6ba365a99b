"""ktc.ModelConfig [manual_3_onnx.md, 3.2; manual_4_bie.md, 4.1]."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ktc import double_file, rules
from ktc.evaluator import text_of
from ktc.graph_rules import check_graph, input_shapes, is_optimised
from ktc.quantiser import quantised

NOT_GIVEN = object()


class ModelConfig:
    def __init__(
        self, id, version, platform, onnx_model=None, onnx_path=None, bie_path=None, radix_json_path=None,
        compiler_config_path=None, debug=False, input_fmt=None,
    ):  # fmt: skip
        rules.told_to("ModelConfig")
        if type(id) is not int or not 32768 <= id <= 65535:
            raise ValueError(f"id {id!r}: ids up to 32767 are Kneron's own")  # [appendix/toolchain_webgui.md]
        if type(version) is not str or not re.fullmatch(r"[0-9a-fA-F]{4}", version):
            raise ValueError(f"version {version!r} is not four hexadecimal digits")  # [manual_3_onnx.md, 3.2]
        rules.one_of("platform", platform, rules.PLATFORMS)
        if sum(one is not None for one in (onnx_model, onnx_path, bie_path)) != 1:
            raise ValueError("exactly one of onnx_model, onnx_path, bie_path")  # [manual_3_onnx.md, 3.2]
        if onnx_path is not None or radix_json_path is not None or compiler_config_path is not None:
            raise NotImplementedError("this double takes onnx_model or bie_path only")
        if debug is not False or (input_fmt is not None and platform != "730"):
            raise ValueError("debug is off, and input_fmt is for 730 only")  # [history.md, v0.30]
        self.id, self.platform = id, platform
        self.bie = None
        self.model = onnx_model
        if bie_path is not None:
            if type(bie_path) is not str or not bie_path.endswith(".bie"):
                raise ValueError(f"bie_path {bie_path!r} is no .bie")
            self._load_bie(Path(bie_path))
        else:
            check_graph(onnx_model)
            if not is_optimised(onnx_model):
                raise ValueError("every ONNX shall pass the optimiser first")  # [manual_3_onnx.md, 3.1.5]

    def _load_bie(self, path: Path) -> None:
        rules.plain_path("bie_path", str(path))
        header, _ = double_file.read(path)
        if header["kind"] != "bie" or header["platform"] != self.platform:
            raise ValueError(f"{path} is a {header['kind']} for {header['platform']}")
        self.bie = path

    def evaluate(
        self, output_dir="/data1/kneron_flow", datapath_bitwidth_mode=None, weight_bitwidth_mode=None,
        model_in_bitwidth_mode=None, model_out_bitwidth_mode=None, cpu_node_bitwidth_mode=None, weight_bandwidth=None,
        dma_bandwidth=None, compiler_tiling="default",
    ):  # fmt: skip
        given = {name: value for name, value in locals().items() if name.endswith("bitwidth_mode")}
        rules.told_to("evaluate")
        rules.absolute_folder("output_dir", output_dir)
        rules.widths(self.platform, given)
        rules.one_of("compiler_tiling", compiler_tiling, ("default", "deep_search"))
        text = text_of(self.model, self.platform, given)
        (Path(output_dir) / "model_fx_report.html").write_text(f"<pre>{text}</pre>")
        return text

    def analysis(
        self, input_mapping, output_dir="/data1/kneron_flow", threads=4, quantize_mode="default",
        datapath_range_method="percentage", percentile=NOT_GIVEN, outlier_factor=NOT_GIVEN, percentage=NOT_GIVEN,
        percentage_16b=NOT_GIVEN, datapath_bitwidth_mode=None, weight_bitwidth_mode=None, model_in_bitwidth_mode=None,
        model_out_bitwidth_mode=None, cpu_node_bitwidth_mode=None, const_in_bitwidth_mode="int8", flops_ratio=0.2,
        quan_config=None, compiler_tiling="default", mode=NOT_GIVEN, optimize=0,
    ):  # fmt: skip
        given = {name: value for name, value in locals().items() if name not in ("self", "input_mapping")}
        how = rules.told_to("analysis")
        if how == "memory" and threads > 1:  # [manual_4_bie.md, FAQ 4.3.2.2]
            raise RuntimeError("Command '['run_updater']' died with <Signals.SIGABRT: 6>")
        self._check_analysis(input_mapping, given)
        made = Path(output_dir) / f"input.kdp{self.platform}.scaled.bie"
        feeds = [
            {name: arrays[index] for name, arrays in input_mapping.items()}
            for index in range(len(arrays_of(input_mapping)))
        ]
        model, largest = quantised(self.model, feeds, given)
        header = {"kind": "bie", "platform": self.platform, "id": self.id, "largest": largest,
                  "in": model_in_bitwidth_mode}  # fmt: skip
        if how not in ("lie", "empty"):
            double_file.write(made, header, model)
            self.bie = made
        elif how == "empty":
            made.touch()
        (Path(output_dir) / "model_fx_report.html").write_text("<pre>double</pre>")
        return str(made)

    def _check_analysis(self, input_mapping, given: dict) -> None:
        """[manual_4_bie.md, 4.1], and what stands beside a rule."""
        rules.absolute_folder("output_dir", given["output_dir"])
        rules.number("threads", given["threads"], 1, 64, int)
        rules.one_of("quantize_mode", given["quantize_mode"], ("default", "post_sigmoid"))
        rules.one_of("datapath_range_method", given["datapath_range_method"], ("percentage", "mmse"))
        by_method = {"percentage": ("percentage", "percentage_16b"), "mmse": ("percentile", "outlier_factor")}
        for method, names in by_method.items():
            for name in names:
                if (given[name] is not NOT_GIVEN) != (method == given["datapath_range_method"]):
                    raise ValueError(f"{name} is used under '{method}' mode, and there only")
        if given["datapath_range_method"] == "percentage":
            rules.number("percentage", given["percentage"], 0.999, 1.0)
            rules.number("percentage_16b", given["percentage_16b"], given["percentage"], 1.0)
        else:
            rules.number("percentile", given["percentile"], 1e-9, 1.0)
            rules.number("outlier_factor", given["outlier_factor"], 1e-9, 1000.0)
        rules.widths(self.platform, given)
        rules.one_of("const_in_bitwidth_mode", given["const_in_bitwidth_mode"], rules.WIDTHS)  # [history.md, 0.31.1]
        if given["quan_config"] is not None and self.platform != "730":
            raise ValueError("quan_config is for 730 only")
        rules.one_of("compiler_tiling", given["compiler_tiling"], ("default", "deep_search"))
        if given["mode"] is NOT_GIVEN:
            raise TypeError("mode is not given: 1 in the manual, 2 in quantization/1.2_Flow_and_Steps.md")
        rules.number("mode", given["mode"], 0, 3, int)
        rules.number("optimize", given["optimize"], 0, 4, int)
        shapes = input_shapes(self.model)
        if not isinstance(input_mapping, dict) or set(input_mapping) != set(shapes):
            raise ValueError(f"input_mapping has to name {sorted(shapes)}")  # [FAQ 4.3.2.3]
        for name, arrays in input_mapping.items():
            if not isinstance(arrays, list) or not arrays or len(arrays) != len(arrays_of(input_mapping)):
                raise ValueError(f"input_mapping[{name!r}] is no list, or not as long as the others")
            for array in arrays:
                if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                    raise ValueError("Actual: (tensor(double)), expected: (tensor(float))")
                if array.shape != shapes[name]:  # channel first since v0.21.0 [history.md]
                    raise ValueError(f"{name}: shape {array.shape}, the network's is {shapes[name]}")


def arrays_of(input_mapping: dict) -> list:
    return next(iter(input_mapping.values()))
