"""compile.py and infer.py on whole job folders, against the stand-ins."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import onnx

_spec = importlib.util.spec_from_file_location("ascend310p_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, write_job, change_job, rung, error, failed, left_over = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.rung, _conftest.error,
    _conftest.failed, _conftest.left_over,
)  # fmt: skip


def record_of(folder: Path) -> dict:
    return json.loads((folder / "compile.json").read_text())


def header_of(folder: Path) -> dict:
    mark, line, _ = (folder / "net.double.om").read_bytes().split(b"\n", 2)
    assert mark == b"NPUMAKE DOUBLE: not an artifact"
    return json.loads(line)


def test_fp16_is_compiled_and_checked_and_never_simulated(compiled):
    folder = compiled("fp16")
    record = record_of(folder)
    assert record["artifact"] == ["net.double.om"] and record["double"] is True and record["quantization"] is None
    assert record["soc_version"] == "Ascend310P3" and record["warnings"] == []
    checks = " ".join(record["checks"])
    for shown in ("ATC run success", "image float32 [1, 3, 16, 12]", "small float32 [1, 4, 16, 12]", "float16 ends at"):
        assert shown in checks
    command = header_of(folder)["command"]
    for word in ("--framework=5", "--soc_version=Ascend310P3", "--precision_mode=force_fp16", "--output_type=FP32"):
        assert word in command
    assert "NPUMAKE DOUBLE" in (folder / "atc.log").read_text()
    failed(run_script("infer.py", folder), "nothing can simulate an .om of fp16")
    assert not (folder / "outputs.npz").exists()


def test_int8_is_amcts_and_its_fake_quantised_network_is_what_is_run(compiled):
    folder = compiled("int8")
    record = record_of(folder)
    assert set(record["files"]) == {"net.double.om", "net.double.fake_quant.onnx"}
    assert record["quantization"] == {"calibration": "ifmr, with offset, on 12 of 12 tensors", "layers": 5,
                                      "float_layers": []}  # fmt: skip
    assert record["fake_quantised"]["sha256"] == record["files"]["net.double.fake_quant.onnx"]["sha256"]
    deployed = onnx.load_from_string((folder / "net.double.om").read_bytes().split(b"\n", 2)[2])
    assert [entry.value for entry in deployed.metadata_props] == ["deploy"]
    done = run_script("infer.py", folder)
    assert done.returncode == 0, done.stderr
    assert 1e-6 < error(folder) < 0.5
    said = json.loads((folder / "infer.json").read_text())
    assert said["simulated"] is True and said["latency_ms"] is None and "not the compiled .om" in said["device"]


def test_rungs_reach_amct_and_keep_the_layers_that_lose_the_most(tmp_path, compiled):
    plain = Path(shutil.copytree(compiled("int8"), tmp_path / "plain"))
    assert run_script("infer.py", plain).returncode == 0
    folder = write_job(tmp_path / "job", "int8", rung=rung(float_share=0.5, error=0.0))
    assert run_script("compile.py", folder).returncode == 0
    report = record_of(folder)["quantization"]
    assert len(report["float_layers"]) == 2 and report["error_after"] < 0.5 * report["error_before"]
    assert report["trials"] == 5 and "evening" in report["float_layers"]  # its weights differ most among its channels
    assert run_script("infer.py", folder).returncode == 0
    assert error(folder) < 0.5 * error(plain)
    # A later rung takes the trials from the cache; KEEP_FLOAT adds a layer, unless AMCT leaves it alone anyway.
    (kept,) = (folder / "cache").rglob("runs-*.json")
    before = kept.stat().st_mtime_ns
    nodes = [{"node": name, "operator": "x", "outputs": [name]} for name in ("stem", "residual")]
    change_job(folder, rung=rung(float_share=0.2, error=0.0, float_tail=0.2), keep_float=nodes)
    assert run_script("compile.py", folder).returncode == 0
    assert set(record_of(folder)["quantization"]["float_layers"]) == {"stem", "evening", "large"}
    assert kept.stat().st_mtime_ns == before
    amct = (folder / "amct.log").read_text()
    assert amct.count("amct_child.py") == 1


def test_amcts_other_algorithm_and_no_offset(tmp_path):
    folder = write_job(tmp_path / "job", "int8", rung=rung(algorithm="hfmg", activation_offset=False), batch=4)
    assert run_script("compile.py", folder).returncode == 0, (folder / "amct.log").read_text()
    record = record_of(folder)
    assert record["quantization"]["calibration"].startswith("hfmg, without offset") and record["batch"] == 4
    assert run_script("infer.py", folder).returncode == 0
    assert error(folder) < 0.9


def test_one_artifact_for_all_sizes(compiled):
    folder = compiled("fp16", {"DYNAMIC": "image_size"})
    record, header = record_of(folder), header_of(folder)
    assert "--dynamic_image_size=16,12;12,16;32,24" in header["command"]
    assert "--input_shape=image:1,3,-1,-1" in header["command"]
    assert record["profiles"] == {"sizes": [[16, 12], [12, 16], [32, 24]], "batches": []}
    assert "runs at 16x12, 12x16, 32x24" in " ".join(record["checks"]) and record["warnings"] == []


def test_one_artifact_for_several_batches(compiled):
    folder = compiled("fp16", {"DYNAMIC": "batch"})
    assert "--dynamic_batch_size=1,2,4,8" in header_of(folder)["command"]
    assert "2 images at once" in " ".join(record_of(folder)["checks"])


def test_pixels_in_and_the_chip_normalises(compiled):
    folder = compiled("fp16", {"INPUT": "u8"})
    record = record_of(folder)
    text = (folder / "net.double.aipp.cfg").read_text()
    assert "mean_chn_0: 123\n" in text and "min_chn_0: 0.675" in text and "var_reci_chn_0: 0.017124" in text
    assert "src_image_size_w: 12\n" in text
    assert record["pixels"] is True and record["input_kind"] == "uint8 NHWC pixels of 0..255, rgb"
    assert "image uint8 [1, 16, 12, 3]" in " ".join(record["checks"])


def test_tuning_needs_an_npu_and_another_chip_of_the_family_its_exact_name(tmp_path):
    folder = write_job(tmp_path / "job", "fp16", {"AOE": "1", "SOC": "Ascend310B1"}, chip="ascend310b")
    failed(run_script("compile.py", folder), "aoe --job_type=1 ended with exit code 1", "no device")
    assert left_over(folder) == []
    done = run_script("compile.py", folder, ASCEND_DOUBLE_NPU="1")
    assert done.returncode == 0, done.stderr
    log = (folder / "atc.log").read_text()
    assert log.index("--job_type=1") < log.index("--job_type=2") < log.index("--precision_mode")
    assert "tuned by aoe" in " ".join(record_of(folder)["checks"])
    assert header_of(folder)["soc"] == "Ascend310B1" == record_of(folder)["soc_version"]
