"""The rules of the stand-ins for atc, aoe, AIPP files and AMCT that test_doubles.py leaves, each broken once."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

_spec = importlib.util.spec_from_file_location("ascend310p_doubles", Path(__file__).with_name("test_doubles.py"))
_doubles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_doubles)
atc, amct, calibrated, SEVERAL = _doubles.atc, _doubles.amct, _doubles.calibrated, _doubles.SEVERAL
network, importing, DOUBLE = _doubles.network, _doubles._conftest.importing, _doubles.DOUBLE
BATCHES = {"model": "batch.onnx", "input_shape": "image:-1,3,16,12", "dynamic_batch_size": "1,2"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({key: None}, f"[--{key}] is required") for key in sorted(_doubles.GOOD)),
        ({"log": "loud"}, "[--log] is invalid"),
        ({"output": "net work"}, "is no path"),
        ({"input_shape": "image:1,3,16,0"}, "--input_shape [image:1,3,16,0]"),
        ({"input_shape": "1,3,16,12"}, "--input_shape names []"),
        ({**BATCHES, "dynamic_batch_size": "1;2"}, "--dynamic_batch_size [1;2]"),
        ({**BATCHES, "dynamic_batch_size": "0,2"}, "--dynamic_batch_size [0,2]"),
        ({**BATCHES, "dynamic_batch_size": "2"}, "E10035"),
        ({**BATCHES, "dynamic_batch_size": "2,2"}, "E10035"),
        ({**BATCHES, "dynamic_batch_size": ",".join(str(size) for size in range(1, 102))}, "E10035"),
        ({**BATCHES, "input_shape": "image:2,3,16,12"}, "the batch, and only it"),
        ({**SEVERAL, "model": "all.onnx", "input_shape": "image:-1,3,-1,-1"}, "height and width, and only they"),
        ({**SEVERAL, "dynamic_image_size": "16,0;32,24"}, "--dynamic_image_size [16,0;32,24]"),
        ({"model": "garbage.onnx"}, "E16002"),
        ({"model": "new.onnx"}, "No parser is registered for Op [ai.onnx::19"),
        ({"model": "old.onnx"}, "No parser is registered for Op [ai.onnx::6"),
        ({"model": "two.onnx"}, "the model's inputs are ['image', 'other']"),
    ],
)
def test_atc_refuses(atc, changes, said):
    for name, free in (("batch", (0,)), ("all", (0, 2, 3))):
        model = network()
        for index in free:
            model.graph.input[0].type.tensor_type.shape.dim[index].dim_param = f"d{index}"
        del model.graph.value_info[:]
        onnx.save(model, f"{name}.onnx")
    for name, opset in (("new", 19), ("old", 6)):
        identity = onnx.helper.make_node("Relu", ["image"], ["out"], "only")
        values = [onnx.helper.make_tensor_value_info(key, 1, [1, 3, 16, 12]) for key in ("image", "out")]
        graph = onnx.helper.make_graph([identity], "g", values[:1], values[1:])
        opsets = [onnx.helper.make_opsetid("", opset)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=7), f"{name}.onnx")
    model = network()
    model.graph.input.append(onnx.helper.make_tensor_value_info("other", 1, [1]))
    onnx.save(model, "two.onnx")
    Path("garbage.onnx").write_bytes(b"no network")
    code, text = atc(**changes)
    assert code == 255 and said in text and "success" not in text and not list(Path().glob("*.om"))


AIPP = {
    "aipp_mode": "static", "related_input_rank": "0", "input_format": "RGB888_U8", "csc_switch": "false",
    "src_image_size_w": "12", "src_image_size_h": "16",
    **{f"{word}_{index}": value for word, value in (("mean_chn", "120"), ("min_chn", "0.5"), ("var_reci_chn", "0.017"))
       for index in range(3)},
}  # fmt: skip


def aipp_text(**changes: str | None) -> str:
    lines = [f"    {key}: {value}" for key, value in {**AIPP, **changes}.items() if value is not None]
    return "\n".join(["aipp_op {", *lines, "}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mean_chn_0: 1", "no aipp_op"),
        (aipp_text() + "}", "not understood"),
        (aipp_text(speed="1"), "'speed: 1' is not understood"),
        (aipp_text().replace("csc_switch:", "csc_switch"), "is not understood"),
        (aipp_text().replace("\n}", "\n    min_chn_0: 0\n}"), "stands there twice"),
        *((aipp_text(**{key: None}), f"{key} is missing") for key in sorted(AIPP)),
        (aipp_text(aipp_mode="dynamic"), "aipp_mode: dynamic"),
        (aipp_text(input_format="YUV420SP_U8"), "input_format: YUV420SP_U8"),
        (aipp_text(csc_switch="true"), "csc_switch: true"),
        (aipp_text(related_input_rank="1"), "related_input_rank: 1"),
        (aipp_text(rbuv_swap_switch="1"), "rbuv_swap_switch"),
        (aipp_text(src_image_size_w="16"), r"src_image_size is \[16, 16\]"),
        (aipp_text(src_image_size_h="x"), "invalid literal"),
        (aipp_text(mean_chn_0="256"), "whole numbers of 0 to 255"),
        (aipp_text(mean_chn_1="-1"), "whole numbers of 0 to 255"),
        (aipp_text(mean_chn_2="1.5"), "whole numbers of 0 to 255"),
        (aipp_text(min_chn_0="255.5"), "min_chn: "),
        (aipp_text(min_chn_1="nan"), "min_chn: "),
        (aipp_text(var_reci_chn_2="65505"), "var_reci_chn: "),
        (aipp_text(var_reci_chn_0="one"), "could not convert"),
    ],
)
def test_aipp_files_that_are_refused(text, said):
    with importing(DOUBLE):
        read = importlib.import_module("aipp_file").read_aipp
        assert read(aipp_text(rbuv_swap_switch="true"), [1, 3, 16, 12], False)["min_chn"] == [0.5] * 3
        assert read(aipp_text(src_image_size_w="0", src_image_size_h="0"), [1, 3, -1, -1], True)
        with pytest.raises(ValueError, match=said):
            read(text, [1, 3, 16, 12], False)


def test_aipp_files_of_several_sizes_name_none():
    with importing(DOUBLE):
        read = importlib.import_module("aipp_file").read_aipp
        with pytest.raises(ValueError, match="src_image_size is"):
            read(aipp_text(), [1, 3, -1, -1], True)


@pytest.fixture
def aoe(atc, monkeypatch, capsys, tmp_path):
    """aoe(environment, **changes) -> (exit code, what it printed); None takes an option or a variable away."""
    (tmp_path / "bank").mkdir()
    with importing(DOUBLE):
        tool = importlib.import_module("aoe_tool")
    good = {key: _doubles.GOOD[key] for key in ("framework", "model", "output", "input_format", "input_shape")}

    def run(environment: dict | None = None, **changes: str | None) -> tuple[int, str]:
        variables = {"ASCEND_DOUBLE_NPU": "1", "TUNE_BANK_PATH": str(tmp_path / "bank")} | (environment or {})
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        given = {key: value for key, value in {**good, "job_type": "1", **changes}.items() if value is not None}
        monkeypatch.setattr("sys.argv", ["aoe", *(f"--{key}={value}" for key, value in given.items())])
        try:
            tool.main()
            code = 0
        except SystemExit as left:
            code = left.code
        return code, capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({key: None}, f"[--{key}] is required") for key in
          ("framework", "model", "output", "input_format", "input_shape", "job_type")),
        ({"framework": "3"}, "[--framework] is invalid"),
        ({"input_format": "NHWC"}, "[--input_format] is invalid"),
        ({"job_type": "3"}, "[--job_type] is invalid"),
        ({"soc_version": "Ascend310P3"}, "E40001: ['soc_version']"),
        ({"model": "none.onnx"}, "E16002"),
        ({"input_shape": "image:1,3,-1,-1"}, "the model fixes dimension 2"),
        ({**SEVERAL, "dynamic_image_size": "16,12"}, "E10035"),
        ({"environment": {"ASCEND_DOUBLE_NPU": None}}, "E40021: no device"),
        ({"environment": {"TUNE_BANK_PATH": None}}, "E40002: TUNE_BANK_PATH is no folder"),
        ({"environment": {"TUNE_BANK_PATH": "bank"}}, "E40002: TUNE_BANK_PATH is no folder"),
        ({"environment": {"TUNE_BANK_PATH": "/nowhere/bank"}}, "E40002: TUNE_BANK_PATH is no folder"),
    ],
)  # fmt: skip
def test_aoe_refuses(aoe, tmp_path, changes, said):
    code, text = aoe(**changes)
    assert code != 0 and said in text and "finished" not in text and not list((tmp_path / "bank").iterdir())
    assert aoe()[0] == 0 and aoe(**SEVERAL, job_type="2")[0] == 0
    assert sorted(path.name for path in (tmp_path / "bank").iterdir()) == ["job_1", "job_2"]


def definition(**more: object) -> dict:
    Path("definition.cfg").write_text(
        "batch_num : 2\nactivation_offset : true\n"
        "common_config : {\n  hfmg_quantize : {\n    num_of_bins : 4096\n  }\n}\n"
    )
    return {"config_defination": "definition.cfg", **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"updated_model": "net.onnx"}, "updated_model"),
        ({"model_file": Path("net.onnx")}, "path is a str"),
        ({"model_file": "none.onnx"}, "none.onnx"),
        ({"config_defination": "none.cfg"}, "none.cfg"),
        ({"config_defination": {"skip_layers": ["stem"]}}, "do not count"),
        ({"config_defination": {"activation_offset": False}}, "do not count"),
        ({"batch_num": 2.0}, "batch_num"),
        ({"batch_num": True}, "batch_num"),
        ({"model_file": "nameless.onnx"}, "nodes without a name"),
        ({"model_file": "old.onnx"}, "the opset"),
    ],
)
def test_amct_refuses_of_a_configuration(amct, change, said):
    for name, spoil in (("nameless", lambda model: model.graph.node[0].ClearField("name")),
                        ("old", lambda model: model.opset_import[0].__setattr__("version", 7))):  # fmt: skip
        model = network()
        spoil(model)
        onnx.save(model, f"{name}.onnx")
    amct.create_quant_config("good.json", "net.onnx", **definition())
    if isinstance(change.get("config_defination"), dict):
        change = definition(**change["config_defination"])
    with pytest.raises((AssertionError, OSError), match=said):
        amct.create_quant_config(**{"config_file": "config.json", "model_file": "net.onnx", **change})
    assert not Path("config.json").exists()


def test_amct_refuses_of_what_follows(amct):
    names = ["config.json", "net.onnx", "modified.onnx", "record.txt"]
    with pytest.raises(FileNotFoundError):
        amct.quantize_model(*names)
    amct.create_quant_config("config.json", "net.onnx")
    onnx.save(network(), "other.onnx")
    with pytest.raises(AssertionError, match=r"for net\.onnx"):
        amct.quantize_model("config.json", "other.onnx", "modified.onnx", "record.txt")
    with pytest.raises(AssertionError, match="not rounded"):
        amct.quantize_model(*names, weight_fakequant=False)
    for index in range(4):
        with pytest.raises(AssertionError, match="path is a str"):
            amct.quantize_model(*names[:index], Path(names[index]), *names[index + 1 :])
    amct.quantize_model(*names)
    session = amct.AMCT_SO
    session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with pytest.raises(AssertionError, match=r"unknown arguments \['provider_options'\]"):
        calibrated(amct, provider_options=[{}])
    with pytest.raises(AssertionError, match="AMCT_SO is missing"):
        calibrated(amct, sess_options=onnxruntime.SessionOptions())
    opened = onnxruntime.InferenceSession("modified.onnx", session, providers=["CPUExecutionProvider"])
    with pytest.raises(AssertionError, match="calibration in float64"):
        opened.run(None, {"image": np.zeros((1, 3, 16, 12))})
    calibrated(amct, 1)
    for wrong in (("other.onnx", "record.txt", "net"), ("modified.onnx", "other.txt", "net")):
        with pytest.raises(AssertionError, match="not in this process"):
            amct.save_model(*wrong)
    with pytest.raises(AssertionError, match="path is a str"):
        amct.save_model("modified.onnx", "record.txt", Path("net"))
    assert not list(Path().glob("net_*"))
    amct.save_model("modified.onnx", "record.txt", "net")
    assert len(list(Path().glob("net_*"))) == 2
