"""compile.py and infer.py against a strict double of Hailo's Dataflow Compiler."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_compile", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, write_job, change_job, failed, left_over, record = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.failed, _conftest.left_over,
    _conftest.record,
)  # fmt: skip

MARK = b"NPUMAKE DOUBLE"
DECODE = {"kind": "yolov8", "regression_bins": 4, "shown_score": 0.3, "overlap_threshold": 0.6, "keypoints": None}


def compile_well(folder: Path, **variables: str):
    done = run_script("compile.py", folder, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert left_over(folder) == [name for name in left_over(folder) if not name.startswith(".partial")]
    return done


def script_of(folder: Path) -> list[str]:
    return (folder / "net.double.alls").read_text().splitlines()


def test_three_contexts_and_the_onnx_itself(compiled):
    """Names, order (the double has another one) and layout are right, or the float ones would differ."""
    expected = _conftest.float_outputs(compiled)
    stages = {one["name"]: np.load(compiled / one["file"]) for one in record(compiled, "infer.json")["stages"]}
    for name, values in expected.items():
        for stage in ("native", "optimised"):
            assert stages[stage][name].dtype == np.float32
            np.testing.assert_allclose(stages[stage][name], values, atol=1e-5)
        found = np.load(compiled / "outputs.npz")[name]
        error = np.abs(found - values).max() / np.abs(values).max()
        assert found.dtype == np.float32 and 0.001 < error < 0.1  # integers, but the network


def test_what_is_recorded(compiled):
    told = record(compiled)
    assert told["artifact"] == ["net.double.hef"] and told["double"] is True and told["warnings"] == []
    assert (compiled / "net.double.hef").read_bytes().startswith(MARK)
    assert {entry["output"]: (entry["node"], entry["layer"]) for entry in told["outputs"]} == {
        "small": ("/small/Conv", "net_double/conv3"),
        "large": ("/large/Identity", "net_double/conv4"),
    }
    assert told["quantization"]["optimization_level"] == 0 and "12 images" in told["quantization"]["why"]
    assert script_of(compiled) == [
        "normalization1 = normalization([123.675000, 116.280000, 103.530000], [58.395000, 57.120000, 57.375000])",
        "model_optimization_flavor(optimization_level=0, compression_level=0)",
        "model_optimization_config(calibration, batch_size=6, calibset_size=12)",
    ]
    inferred = record(compiled, "infer.json")
    assert inferred["simulated"] is True and inferred["latency_ms"] is None and "SDK_QUANTIZED" in inferred["device"]


def test_rungs_resume_and_16_bit_outputs_are_nearer(copied):
    expected, first = _conftest.float_outputs(copied), dict(np.load(copied / "outputs.npz"))
    compile_well(copied)
    assert record(copied)["resumed"] == ["parsed", "quantised"]
    change_job(copied, rung={"number": 2, "name": "x", "options": {"level": 0, "equalization": False}})
    compile_well(copied)
    assert record(copied)["resumed"] == ["parsed"]
    assert "pre_quantization_optimization(equalization, policy=disabled)" in script_of(copied)
    change_job(copied, rung={"number": 3, "name": "x", "options": {"level": 0, "outputs_16bit": True}})
    compile_well(copied)
    assert "quantization_param([output_layer1, output_layer2], precision_mode=a16_w16)" in script_of(copied)
    assert run_script("infer.py", copied).returncode == 0
    found = np.load(copied / "outputs.npz")
    for name, values in expected.items():
        assert np.abs(found[name] - values).mean() < np.abs(first[name] - values).mean()


def test_a_damaged_kept_network_is_made_again(copied):
    for path in (copied / "cache").rglob("*.har"):
        path.write_bytes(path.read_bytes()[:-1])
    compile_well(copied)
    assert record(copied)["resumed"] == []


def test_training_needs_images_and_a_gpu(tmp_path):
    folder = write_job(tmp_path / "few", {"level": 2, "finetune": True}, count=1023)
    failed(run_script("compile.py", folder, HAILO_DOUBLE_GPUS="1"), "1024 images", "1023", code=3)
    folder = write_job(tmp_path / "job", {"level": 2, "finetune": True}, count=1024)
    failed(run_script("compile.py", folder), "GPU", code=3)
    assert left_over(folder) == []
    compile_well(folder, HAILO_DOUBLE_GPUS="1")
    assert "post_quantization_optimization(finetune, policy=enabled, dataset_size=1024)" in script_of(folder)
    assert record(folder)["quantization"]["optimization_level"] == 2


LEVELS = """
from rung_options import Options, choose_level
for images, gpus in ((1024, 1), (1023, 1), (1024, 0)):
    chosen = choose_level(Options(), images, gpus)
    assert "highest" in chosen.reason and str(images) in chosen.reason
    print(chosen.level, end=" ")
"""


def test_the_plain_way_takes_the_highest_level_that_there_is():
    assert _conftest.in_vendor_folder(LEVELS).split() == ["2", "0", "0"]


def test_further_lines_of_the_users_own(copied):
    (copied / "options").mkdir()
    (copied / "options" / "ALLS").write_text(
        "# ours\nperformance_param(compiler_optimization_level=max)\n"
        "model_optimization_flavor(optimization_level=0, compression_level=1)  # stronger\n"
    )
    change_job(copied, options={"ALLS": "options/ALLS"})
    compile_well(copied)
    assert len(script_of(copied)) == 4 and "compression_level=1)" in script_of(copied)[-1]
    assert record(copied)["quantization"]["optimization_level"] is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x = normalization([0], [1])", "generated"),
        ('nms_postprocess("x.json", meta_arch=yolov8, engine=cpu)', "NMS=hailort"),
        ("performance_param(\n", "line 1"),
        ("# nothing\n", "no command"),
        ("\udcff", "no text"),
        (None, "cannot be read"),
    ],
)
def test_lines_that_may_not_be_there(copied, text, word):
    (copied / "options").mkdir()
    if text is not None:
        (copied / "options" / "ALLS").write_text(text, errors="surrogateescape")
    change_job(copied, options={"ALLS": "options/ALLS"})
    failed(run_script("compile.py", copied), "ALLS", word)
    assert left_over(copied) == []


def test_lines_that_the_sdk_refuses(copied):
    (copied / "options").mkdir()
    (copied / "options" / "ALLS").write_text("quantization_param(conv99, precision_mode=a16_w16)\n")
    change_job(copied, options={"ALLS": "options/ALLS"})
    failed(run_script("compile.py", copied), "load_model_script failed", "conv99")


def test_a_recommended_end_is_shown_and_never_taken(copied):
    done = run_script("compile.py", copied, HAILO_DOUBLE_RECOMMENDS="/small/Conv,/last/Conv", PYTHONHASHSEED="0")
    assert done.returncode == 0  # parsed before: nothing is asked again
    for path in (copied / "cache").rglob("*.har"):
        path.unlink()
    done = run_script("compile.py", copied, HAILO_DOUBLE_RECOMMENDS="/small/Conv,/last/Conv")
    failed(done, "recommends the end nodes /small/Conv, /last/Conv", "END_NODES=/small/Conv,/last/Conv")
    assert left_over(copied) == []
    change_job(copied, options={"END_NODES": "/small/Conv,/last/Conv"})
    compile_well(copied, HAILO_DOUBLE_RECOMMENDS="/small/Conv,/last/Conv")
    assert [entry["node"] for entry in record(copied)["outputs"]] == ["/last/Conv", "/small/Conv"]


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ("/small/Conv,/up/ConvTranspose", "none of /up/ConvTranspose gives the network's output large"),
        ("/small/Conv,/nowhere", "'/nowhere'"),
        (" , ", "names no node"),
    ],
)
def test_end_nodes_that_give_something_else(copied, nodes, word):
    change_job(copied, options={"END_NODES": nodes})
    failed(run_script("compile.py", copied), "END_NODES", word)
    assert left_over(copied) == []


def test_a_detector_with_raw_heads_and_with_suppression(tmp_path):
    folder = write_job(
        tmp_path / "job", {"level": 0}, graph=_conftest.detector(), decode=DECODE, labels=["a", "b", "c"],
        options={"NMS": "hailort"},
    )  # fmt: skip
    compile_well(folder)
    told = record(folder)
    assert told["artifact"] == ["net.double.hef", "net.double.nms.hef"] and "not simulated" in told["warnings"][0]
    assert all((folder / name).read_bytes().startswith(MARK) for name in told["artifact"])
    content = record(folder, "net.double.nms.json")
    assert content["image_dims"] == [64, 64] and content["classes"] == 3 and content["regression_length"] == 4
    assert content["nms_scores_th"] == 0.3 and content["nms_iou_th"] == 0.6
    layers = {entry["output"]: entry["layer"].split("/")[1] for entry in told["outputs"]}
    assert content["bbox_decoders"] == [
        {"name": f"bbox_decoder_{s}", "stride": s, "reg_layer": layers[f"box_{s}"], "cls_layer": layers[f"class_{s}"]}
        for s in (8, 16, 32)
    ]
    lines = (folder / "net.double.nms.alls").read_text().splitlines()
    assert 'nms_postprocess("net.double.nms.json", meta_arch=yolov8, engine=cpu)' in lines
    assert sum(line.startswith("change_output_activation") for line in lines) == 3
    assert not any("nms" in line or "sigmoid" in line for line in script_of(folder))
    assert run_script("infer.py", folder).returncode == 0  # the proof is of the raw heads
    for name, values in _conftest.float_outputs(folder).items():
        np.testing.assert_allclose(np.load(folder / "stage-native.npz")[name], values, atol=1e-5)
    change_job(folder, labels=["a"])
    failed(run_script("compile.py", folder), "3 channels for 1 classes")
    change_job(folder, labels=[], decode=DECODE | {"keypoints": "coco17"})
    failed(run_script("compile.py", folder), "keypoints")
    change_job(folder, decode=DECODE | {"regression_bins": 5})
    failed(run_script("compile.py", folder), "no head of boxes")
    assert left_over(folder) == []


def test_suppression_of_a_network_that_finds_no_boxes(copied):
    change_job(copied, options={"NMS": "hailort"}, decode={"kind": "heatmap"})
    failed(run_script("compile.py", copied), "NMS=hailort", "heatmap")


def test_the_larger_chip_and_a_job_without_preprocessing(tmp_path):
    folder = write_job(tmp_path / "job", chip="hailo8", inputs=[{"name": "image", "shape": [1, 3, 16, 12]}])
    compile_well(folder)
    assert not any("normalization" in line for line in script_of(folder))
    assert "takes normalised float32" in record(folder)["warnings"][0]
    assert run_script("infer.py", folder).returncode == 0
    for name, values in _conftest.float_outputs(folder).items():
        np.testing.assert_allclose(np.load(folder / "stage-optimised.npz")[name], values, atol=1e-5)
