"""compile.py and infer.py with the doubles: what comes out, for every rung and chip."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import onnxruntime
import pytest
import yaml

from tests.vendors.kl730.jobs import (
    MIXED,
    VENDOR,
    arrays_of,
    change_job,
    evaluated,
    failed,
    left_over,
    network,
    record_of,
    run_script,
    write_job,
)

MARK = b"NPUMAKE DOUBLE: not an artifact\n"


def float_outputs(folder):
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    rows = [session.run(names, {"image": sample[None]}) for sample in arrays_of(folder / "samples.npz")["image"]]
    return {name: np.concatenate([row[index] for row in rows]) for index, name in enumerate(names)}


def loss(folder):
    """Squared error of the simulated outputs over the float ones' squares."""
    wanted, found = float_outputs(folder), arrays_of(folder / "outputs.npz")
    assert sorted(wanted) == sorted(found)
    return max(float(((found[name] - wanted[name]) ** 2).sum() / (wanted[name] ** 2).sum()) for name in wanted)


def test_what_lies_in_the_folder_afterwards(compiled):
    folder = compiled()
    record = record_of(folder)
    assert record["artifact"] == ["net.double.nef"] and record["double"] is True
    kinds = ("nef", "bie", "optimised.onnx", "evaluation.txt", "evaluation.html", "analysis.html")
    assert set(record["files"]) == {f"net.double.{kind}" for kind in kinds}
    for name, told in record["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told["sha256"]
    assert (folder / "net.double.nef").read_bytes().startswith(MARK)
    assert (folder / "net.double.bie").read_bytes().startswith(MARK)
    assert record["tools"]["kneron-toolchain"] == "double"
    assert record["bie_name"].endswith(".bie") and record["nef_name"] == "models_730.nef"
    assert record["optimised_by"] == "kneronnxopt.optimize"
    assert record["peak_memory_bytes"] > 60e6  # of the process that holds the toolchain, not of compile.py
    assert not [path for path in folder.iterdir() if path.name.startswith(".partial")]
    log = (folder / "toolchain.log").read_text()
    assert "analysis(input_mapping" in log and "kneron_inference(pre_results" in log  # the signatures found


def test_every_argument_of_the_quantisation_is_recorded(compiled):
    about = record_of(compiled())["quantization"]
    widths = [name for name in about["arguments"] if name.endswith("bitwidth_mode")]
    assert len(widths) == 6 and about["arguments"]["mode"] == 1 and about["left_out"] == []
    assert about["samples"] == 6 and 1 <= about["threads"] <= 4
    assert "all values" in about["calibration"] and "6 tensors" in about["calibration"]


def test_the_estimate_is_read_from_the_evaluators_text(compiled):
    folder = compiled()
    estimate = record_of(folder)["estimate"]
    assert f"fps: {estimate['fps']:g}" in (folder / "net.double.evaluation.txt").read_text()
    assert estimate["milliseconds"] == pytest.approx(1000 / estimate["fps"], rel=1e-3)
    assert estimate["cpu_nodes"] == []


def test_three_simulators_can_be_told_apart(compiled):
    folder = compiled()
    stages = {stage["name"]: stage for stage in record_of(folder, "infer.json")["stages"]}
    assert {name: stage["samples"] for name, stage in stages.items()} == {"onnx": 3, "nef": 2}
    wanted, found = float_outputs(folder), arrays_of(folder / "outputs.npz")
    onnx_stage, nef_stage = (arrays_of(folder / stages[name]["file"]) for name in ("onnx", "nef"))
    for name in wanted:
        np.testing.assert_allclose(onnx_stage[name], wanted[name], atol=1e-5)  # float: the optimiser changed nothing
        np.testing.assert_array_equal(nef_stage[name], found[name][:2])  # bit for bit
        assert np.abs(found[name] - wanted[name]).max() > 1e-4  # and the main run is quantised
    result = record_of(folder, "infer.json")
    assert result["simulated"] is True and result["latency_ms"] is None and "double" in result["device"]


def test_how_many_samples_the_slow_simulator_gets(compiled, copied):
    folder = copied(compiled())
    for asked, told in (("0", {"onnx": 3}), ("1", {"onnx": 3, "nef": 1})):
        change_job(folder, options={"NEF_SAMPLES": asked})
        done = run_script("infer.py", folder)
        assert done.returncode == 0, done.stderr
        stages = record_of(folder, "infer.json")["stages"]
        assert {stage["name"]: stage["samples"] for stage in stages} == told
    change_job(folder, options={"NEF_SAMPLES": "all"})
    failed(run_script("infer.py", folder), "NEF_SAMPLES=all")


def test_other_samples_than_the_jobs_own(compiled, copied, tmp_path):
    folder = copied(compiled())
    np.savez(tmp_path / "more.npz", image=np.zeros((2, 3, 16, 12), np.float32))
    before = (folder / "infer.json").read_bytes()
    done = run_script("infer.py", folder, tmp_path / "more.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    assert {name: len(array) for name, array in arrays_of(tmp_path / "out.npz").items()} == {"small": 2, "large": 2}
    assert (folder / "infer.json").read_bytes() == before


def test_outputs_of_one_shape_are_told_apart_by_name(compiled):
    """The double's optimiser turns the outputs around, as the real one may."""
    assert loss(compiled(None, True)) < 0.01


def test_every_rung_of_chip_yaml_is_taken_and_more_bits_lose_less(doubles, tmp_path):
    import ktc

    def loss_of(rung, precision):
        """Of a rung, compiled in one folder (what can be kept is kept), its .nef run on a sample."""
        told = {"number": 1, "name": rung["name"], "options": rung["options"]}
        change_job(folder, precision=precision, rung=told)
        done = run_script("compile.py", folder)
        assert done.returncode == 0, done.stderr
        made = str(folder / "net.double.nef")
        order = {"input_names": ["image"], "reordering": ["small", "large"]}
        found = ktc.kneron_inference([sample], nef_file=made, platform=730, **order)
        return max(float(((found[index] - wanted[index]) ** 2).sum() / (wanted[index] ** 2).sum()) for index in (0, 1))

    folder = write_job(tmp_path / "job")
    sample = arrays_of(folder / "samples.npz")["image"][:1]
    wanted = [float_outputs(folder)[name][:1] for name in ("small", "large")]
    rungs = yaml.safe_load((VENDOR / "chip.yaml").read_text())["rungs"]
    losses = {rung["name"]: loss_of(rung, "int8") for rung in rungs["int8"]}
    assert list(losses) == ["percentage", "mmse", "mix-light", "wide-ends", "int16"]
    assert max(losses.values()) < 0.01
    assert losses["mmse"] > losses["mix-light"] > losses["wide-ends"] > losses["int16"] > 0
    assert losses["int16"] < losses["percentage"] / 100
    wide, wide_mmse = rungs["int16"]
    assert wide["options"] == rungs["int8"][-1]["options"]
    assert loss_of(wide_mmse, "int16") < losses["percentage"] / 100


def test_another_chip_of_the_family(compiled):
    folder = compiled(chip="kl520")
    assert record_of(folder)["nef_name"] == "models_520.nef" and loss(folder) < 0.01


def test_a_chip_without_16_bits_leaves_the_rung_to_others(tmp_path):
    folder = write_job(tmp_path / "job", MIXED, chip="kl520")
    failed(run_script("compile.py", folder), "kl520", "8 bits", code=3)
    assert left_over(folder) == []


def test_a_node_on_the_cpu_is_a_warning_and_an_error_with_strict(tmp_path):
    folder = write_job(tmp_path / "job", graph=network(extra="Floor"))
    done = run_script("compile.py", folder)
    assert done.returncode == 0, done.stderr
    record = record_of(folder)
    assert record["estimate"]["cpu_nodes"] == ["odd_one"]
    assert any("odd_one" in line and "CPU" in line for line in record["warnings"])
    assert "WARNING: on the CPU" in done.stderr
    change_job(folder, options={"STRICT": "1"})
    failed(run_script("compile.py", folder), "odd_one", "NPU")
    assert left_over(folder) == []


def test_an_evaluator_that_fails_is_a_warning_and_an_error_with_strict(compiled, copied):
    folder = copied(compiled())
    shutil.rmtree(folder / "cache")
    done = run_script("compile.py", folder, KTC_DOUBLE="evaluate=abort")
    assert done.returncode == 0, done.stderr
    record = record_of(folder)
    assert record["estimate"]["fps"] is None and "net.double.evaluation.html" not in record["files"]
    assert any("evaluator failed" in line and "SIGABRT" in line for line in record["warnings"])
    change_job(folder, options={"STRICT": "1"})
    failed(run_script("compile.py", folder, KTC_DOUBLE="evaluate=raise"), "told that evaluate fails")
    assert left_over(folder) == []


def test_few_calibration_tensors_are_warned_of(compiled):
    assert any("6 tensors" in line and "100" in line for line in record_of(compiled())["warnings"])


def test_what_is_known_is_not_made_again(compiled, copied):
    """A later rung finds the optimised graph, and after STRICT= or a new compilation the .bie as well."""
    folder = copied(compiled())
    first = record_of(folder)
    failing = "optimize=raise,onnx2onnx_flow=raise,analysis=raise,evaluate=raise"
    done = run_script("compile.py", folder, KTC_DOUBLE=failing)
    assert done.returncode == 0, done.stderr
    assert record_of(folder)["files"] == first["files"]
    change_job(folder, rung={"number": 2, "name": "test", "options": {"samples": 3}})
    done = run_script("compile.py", folder, KTC_DOUBLE="optimize=raise,onnx2onnx_flow=raise,evaluate=raise")
    assert done.returncode == 0, done.stderr  # the same bits: the same estimate
    assert record_of(folder)["sha256"] != first["sha256"]
    assert record_of(folder)["quantization"]["samples"] == 3
    tensor = next((folder / "calib").glob("*.npy"))
    np.save(tensor, np.load(tensor) * 2)
    failed(run_script("compile.py", folder, KTC_DOUBLE="analysis=raise"), "analysis failed")


def test_the_older_optimiser_when_the_newer_one_fails(tmp_path):
    folder = write_job(tmp_path / "job")
    done = run_script("compile.py", folder, KTC_DOUBLE="optimize=raise")
    assert done.returncode == 0, done.stderr
    by = record_of(folder)["optimised_by"]
    assert by.startswith("ktc.onnx_optimizer.onnx2onnx_flow") and "told that optimize fails" in by


def test_fewer_threads_when_memory_runs_out(tmp_path):
    folder = write_job(tmp_path / "job")
    code = f"import json, sys; sys.path.insert(0, {str(VENDOR)!r}); import quantisation, job_file, compile as c\n"
    code += "quantisation.threads_for = lambda *_: (2, 'told to')\n"
    code += f"c.compile_job(job_file.read_job(__import__('pathlib').Path({str(folder)!r}))); print('{{}}')"
    evaluated(code, KTC_DOUBLE="analysis=memory")
    assert record_of(folder)["quantization"]["threads"] == 1
