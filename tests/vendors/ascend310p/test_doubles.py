"""Each rule of the stand-ins broken once: they refuse."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

_spec = importlib.util.spec_from_file_location("ascend310p_conftest_doubles", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

network, pixels, DOUBLE, DOUBLES = _conftest.network, _conftest.pixels, _conftest.DOUBLE, _conftest.DOUBLES
STUB = DOUBLE / "x86_64-linux" / "devlib" / "linux" / "x86_64"
GOOD = {"framework": "5", "model": "net.onnx", "output": "net", "input_format": "NCHW", "soc_version": "Ascend310P3",
        "input_shape": "image:1,3,16,12", "precision_mode": "force_fp16", "output_type": "FP32",
        "log": "error"}  # fmt: skip
SEVERAL = {"model": "free.onnx", "input_shape": "image:1,3,-1,-1", "dynamic_image_size": "16,12;32,24"}


@pytest.fixture
def atc(tmp_path, monkeypatch, capsys):
    """atc(**changes) -> (exit code, what it printed); None takes an option away. Beside net.onnx and free.onnx."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(STUB))
    onnx.save(network(), "net.onnx")
    free = network()
    dimensions = free.graph.input[0].type.tensor_type.shape.dim
    dimensions[2].dim_param, dimensions[3].dim_param = "h", "w"
    del free.graph.value_info[:]
    onnx.save(free, "free.onnx")
    with _conftest.importing(DOUBLE):
        tool = importlib.import_module("atc_tool")

    def run(*words: str, **changes: str | None) -> tuple[int, str]:
        given = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
        monkeypatch.setattr("sys.argv", ["atc", *(words or [f"--{key}={value}" for key, value in given.items()])])
        try:
            tool.main()
            code = 0
        except SystemExit as left:
            code = left.code
        return code, capsys.readouterr().out

    return run


def test_atc_takes_what_is_documented_and_says_so(atc):
    assert atc() == (0, "NPUMAKE DOUBLE of atc\nATC run success, welcome to the next use.\n")
    assert Path("net.om").read_bytes().startswith(b"NPUMAKE DOUBLE: not an artifact\n")
    assert atc("--framework", "5", *(f"--{key}={value}" for key, value in GOOD.items() if key != "framework"))[0] == 0
    assert atc(**SEVERAL)[0] == 0
    assert atc("--mode=1", "--om=net.om", "--json=net.json")[0] == 0
    assert {op["type"] for graph in json.loads(Path("net.json").read_text())["graph"] for op in graph["op"]} == {
        "Data", "Case", "NetOutput"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"framework": None}, "E10007: [--framework] is required"),
        ({"framework": "3"}, "E10001"),
        ({"soc_version": None}, "E10007"),
        ({"soc_version": "Ascend310P"}, "E10001"),
        ({"auto_tune_mode": "GA"}, "E10007: unknown option"),
        ({"input_format": "ND"}, "E10001"),
        ({"precision_mode": "fp16"}, "E10001"),
        ({"output_type": "fp32"}, "E10001"),
        ({"model": "none.onnx"}, "E16002"),
        ({"model": "a b.onnx"}, "E10001"),
        ({"output": "no/folder/net"}, "E10001"),
        ({"input_shape": "data:1,3,16,12"}, "E10001"),
        ({"input_shape": "image:1,3,16"}, "E10001"),
        ({"input_shape": "image:1,3,16,24"}, "E10001"),
        ({"input_shape": "image:1,3,-1,-1"}, "the model fixes dimension 2"),
        ({**SEVERAL, "dynamic_image_size": None}, "a shape range"),
        ({**SEVERAL, "dynamic_image_size": "16,12"}, "E10035"),
        ({**SEVERAL, "dynamic_image_size": "16,12;16,12"}, "E10035"),
        ({**SEVERAL, "dynamic_image_size": "16,12 32,24"}, "E10001"),
        ({**SEVERAL, "dynamic_batch_size": "1,2"}, "E10009"),
        ({**SEVERAL, "input_shape": "image:1,3,16,12"}, "E10001"),
        ({"model": "free.onnx", "input_shape": "image:1,3,-1,-1", "dynamic_batch_size": "1,2"}, "E10001"),
        ({"insert_op_conf": "none.cfg"}, "E10001"),
        ({"mode": "3"}, "E10001"),
    ],
)
def test_atc_refuses_what_is_not(atc, changes, said):
    code, text = atc(**changes)
    assert code == 255 and said in text and "success" not in text and not list(Path().glob("*.om"))


def test_atc_refuses_models_that_its_parser_cannot_read(atc):
    model = network()
    model.opset_import.append(onnx.helper.make_opsetid("other", 1))
    model.graph.node[0].name = "stem"
    onnx.save(model, "net.onnx")
    assert "E16005" in atc()[1]
    model = network(more="reshape")
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    dimensions[2].dim_param, dimensions[3].dim_param = "h", "w"
    onnx.save(model, "free.onnx")
    assert "E19999: infershape failed at (32, 24)" in atc(**SEVERAL)[1]
    model = network()
    model.ir_version = 9
    onnx.save(model, "net.onnx")
    assert "IR version 9" in atc()[1]


def test_atc_does_not_start_without_the_drivers_library(atc, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib")
    code, text = atc()
    assert code == 127 and "libascend_hal.so: cannot open shared object file" in text


def test_atc_refuses_words_that_no_shell_quoted(atc):
    assert "[32,24] is no option" in atc("--dynamic_image_size=16,12", "32,24")[1]
    assert "given twice" in atc("--framework=5", "--framework=5")[1]
    assert "has no value" in atc("--framework")[1]
    assert "E10007" in atc("--mode=1", "--om=net.onnx")[1]
    assert "E10041" in atc("--mode=1", "--om=net.onnx", "--json=a.json")[1]


def test_atc_takes_a_quantised_network_without_several_sizes_only(atc):
    for name, word in (("net.onnx", "deploy"), ("free.onnx", "deploy")):
        model = onnx.load(name)
        model.metadata_props.add(key="amct_onnx double", value=word)
        onnx.save(model, name)
    assert atc()[0] == 0
    Path("net.om").unlink()
    assert "does not take dynamic profiles" in atc(**SEVERAL)[1]
    assert "--precision_mode" in atc(precision_mode="must_keep_origin_dtype")[1]
    model = network()
    model.metadata_props.add(key="amct_onnx double", value="fake")
    onnx.save(model, "net.onnx")
    assert "give the deploy model" in atc()[1]


@pytest.fixture
def amct(tmp_path, monkeypatch):
    """The stand-in for AMCT, imported for one test, in a folder with net.onnx. onnxruntime is left as it was."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "net.onnx")
    before = onnxruntime.InferenceSession
    try:
        with _conftest.importing(DOUBLE, DOUBLES):
            yield importlib.import_module("amct_onnx")
    finally:
        onnxruntime.InferenceSession = before


def calibrated(amct, runs: int = 2, **session) -> None:
    amct.AMCT_SO.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = {"sess_options": amct.AMCT_SO, "providers": ["CPUExecutionProvider"], **session}
    opened = onnxruntime.InferenceSession("modified.onnx", **given)
    for image in pixels(runs):
        opened.run(None, {"image": image[None]})


def test_amct_quantises_what_it_was_fed(amct):
    amct.create_quant_config("config.json", "net.onnx", ["large"], 2, True)
    assert json.loads(Path("config.json").read_text())["layers"] == ["stem", "uneven", "evening", "small"]
    amct.quantize_model("config.json", "net.onnx", "modified.onnx", "record.txt")
    calibrated(amct)
    amct.save_model("modified.onnx", "record.txt", "net")
    assert {path.name for path in Path().glob("net_*")} == {"net_deploy_model.onnx", "net_fake_quant_model.onnx"}


def test_amct_refuses_wrong_arguments(amct):
    with pytest.raises(ValueError, match="nowhere does not exist"):
        amct.create_quant_config("config.json", "net.onnx", skip_layers=["nowhere"])
    with pytest.raises(ValueError, match="residual does not exist or is not quantizable"):
        amct.create_quant_config("config.json", "net.onnx", skip_layers=["residual"])
    with pytest.raises(ValueError, match="no layer"):
        amct.create_quant_config("c.json", "net.onnx", ["stem", "uneven", "evening", "small", "large"])
    with pytest.raises(TypeError):
        amct.create_quant_config("config.json", "net.onnx", config_definition="a.cfg")
    for wrong in ({"skip_layers": "stem"}, {"batch_num": 0}, {"activation_offset": 1}, {"config_file": Path("c")}):
        with pytest.raises(AssertionError):
            amct.create_quant_config(**{"config_file": "config.json", "model_file": "net.onnx", **wrong})
    Path("definition.cfg").write_text("batch_num : 2\nactivation_offset : yes\n")
    with pytest.raises(AssertionError, match="not understood"):
        amct.create_quant_config("config.json", "net.onnx", config_defination="definition.cfg")
    with pytest.raises(AssertionError):
        amct.create_quant_config("config.json", "net.onnx", batch_num=2, config_defination="definition.cfg")
    model = network()
    model.graph.node[0].name = model.graph.node[2].name
    onnx.save(model, "net.onnx")
    with pytest.raises(AssertionError, match="nodes without a name"):
        amct.create_quant_config("config.json", "net.onnx")
    model = network()
    model.opset_import[0].version = 16
    onnx.save(model, "net.onnx")
    with pytest.raises(AssertionError, match="opset"):
        amct.create_quant_config("config.json", "net.onnx")


def test_amct_refuses_another_order(amct):
    with pytest.raises(AssertionError, match="not in this process"):
        amct.save_model("modified.onnx", "record.txt", "net")
    amct.create_quant_config("config.json", "net.onnx", batch_num=2)
    amct.quantize_model("config.json", "net.onnx", "modified.onnx", "record.txt")
    with pytest.raises(RuntimeError, match="at least 2 batches"):
        amct.save_model("modified.onnx", "record.txt", "net")
    with pytest.raises(AssertionError, match="AMCT_SO is missing"):
        calibrated(amct, sess_options=None)
    with pytest.raises(AssertionError):
        calibrated(amct, providers=["CUDAExecutionProvider"])
    calibrated(amct, 3)
    with pytest.raises(AssertionError, match="3 batches were fed, and 2 announced"):
        amct.save_model("modified.onnx", "record.txt", "net")
    amct.AMCT_SO.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with pytest.raises(AssertionError, match="graph optimisations are on"):
        onnxruntime.InferenceSession("modified.onnx", amct.AMCT_SO, providers=["CPUExecutionProvider"])


def om_at(path: Path, compiled, options: dict | None = None) -> Path:
    return compiled("fp16", options) / "net.double.om"


def test_ais_bench_copies_bytes_as_they_are(compiled, tmp_path):
    plain, several = om_at(tmp_path, compiled), om_at(tmp_path, compiled, {"DYNAMIC": "image_size"})
    eight, batches = om_at(tmp_path, compiled, {"INPUT": "u8"}), om_at(tmp_path, compiled, {"DYNAMIC": "batch"})
    image = pixels(1)
    with _conftest.importing(DOUBLE):
        interface = importlib.import_module("ais_bench.infer.interface")
        session = interface.InferSession(0, str(plain))
        assert [output.shape for output in session.infer([image])] == [(1, 4, 16, 12), (1, 5, 32, 24)]
        for feed, mode, said in (
            (image.astype(np.float16), "static", "takes dtype.float32"),
            (image, "dymhw", "not a dymhw model"),
            (np.ascontiguousarray(image.transpose(0, 2, 3, 1)), "static", "the om takes"),
            (np.repeat(image, 2, axis=0), "static", "the om takes"),
        ):
            with pytest.raises(RuntimeError, match=said):
                session.infer([feed], mode)
        with pytest.raises(AssertionError):
            session.infer([image.transpose(0, 1, 3, 2)])
        session.free_resource()
        with pytest.raises(AssertionError):
            session.infer([image])
        assert len(interface.InferSession(0, str(several)).infer([np.zeros((1, 3, 32, 24), np.float32)], "dymhw")) == 2
        with pytest.raises(RuntimeError, match="the om takes"):
            interface.InferSession(0, str(several)).infer([np.zeros((1, 3, 24, 32), np.float32)], "dymhw")
        with pytest.raises(RuntimeError, match="the om takes"):
            interface.InferSession(0, str(batches)).infer([np.zeros((3, 3, 16, 12), np.float32)], "dymbatch")
        with pytest.raises(RuntimeError, match=r"takes dtype\.uint8"):
            interface.InferSession(0, str(eight)).infer([image])
        with pytest.raises(RuntimeError, match="model load failed"):
            interface.InferSession(0, str(tmp_path / "none.om"))
        with pytest.raises(AssertionError):
            interface.InferSession("0", str(plain))


def test_acl_refuses_another_order_and_other_sizes(compiled, tmp_path):
    several = om_at(tmp_path, compiled, {"DYNAMIC": "image_size"})
    with _conftest.importing(DOUBLE):
        acl = importlib.import_module("acl")
        with pytest.raises(AssertionError, match=r"acl.init\(\) comes first"):
            acl.rt.set_device(0)
        acl.init()
        with pytest.raises(AssertionError, match="once in a process"):
            acl.init()
        with pytest.raises(AssertionError):
            acl.mdl.load_from_file(str(several))
        assert acl.rt.set_device(0) == 0
        model, code = acl.mdl.load_from_file(str(several))
        description = acl.mdl.create_desc()
        assert (code, acl.mdl.get_desc(description, model), acl.mdl.get_num_inputs(description)) == (0, 0, 2)
        assert acl.mdl.get_input_index_by_name(description, "ascend_mbatch_shape_data") == (1, 0)
        memory, _ = acl.rt.malloc(1024, 0)
        with pytest.raises(AssertionError, match="the size of the memory"):
            acl.create_data_buffer(memory, 512)
        image = np.zeros(2048, np.uint8)
        with pytest.raises(AssertionError):
            acl.rt.memcpy(memory, 1024, image.ctypes.data, 2048, 1)
        with pytest.raises(KeyError):
            acl.rt.memcpy(memory + 8, 1024, image.ctypes.data, 100, 1)
        dataset = acl.mdl.create_dataset()
        for _ in range(2):
            acl.mdl.add_dataset_buffer(dataset, acl.create_data_buffer(memory, 1024))
        with pytest.raises(AssertionError, match="comes before each execution"):
            acl.mdl.execute(model, dataset, dataset)
        assert acl.mdl.set_dynamic_hw_size(model, dataset, 1, 24, 32) != 0  # no such profile
        assert acl.mdl.set_dynamic_batch_size(model, dataset, 1, 2) != 0  # not that kind
        with pytest.raises(AssertionError):
            acl.mdl.set_dynamic_hw_size(model, dataset, 0, 32, 24)
        with pytest.raises(AssertionError, match="not given back"):
            acl.rt.reset_device(0)
        assert acl.mdl.destroy_dataset(dataset) == 0
        with pytest.raises(AssertionError, match="was destroyed"):
            acl.mdl.destroy_dataset(dataset)
