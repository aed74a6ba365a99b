"""`make bench`: npumake beside the vendor's bare commands, with a vendor folder that is made up here."""

import json
import textwrap
from pathlib import Path

import cv2
import pytest
import yaml

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.bench import compilation as module
from common.bench.compilation import benched_cells, measure_compilation, run_bare
from common.bench.figure import draw
from common.bench.report import table
from common.bench.stages import float_stages
from common.job import Cell
from tests.common.image_sets import make_set, pose_spec
from tests.common.tiny_network import tiny_network
from tests.conftest import ROOT, lend_python

COMPILE = """
    import hashlib, json, pathlib, sys
    job = pathlib.Path(sys.argv[1])
    asked = json.loads((job / "job.json").read_text())
    assert asked["rung"] == {"number": 1, "name": "max", "options": {"calibration": "max"}}, asked
    assert len(list((job / "calib").glob("*.npy"))) == 12
    assert not (job / "cache").exists() and not (job / "compile.json").exists()
    (job / "cache").mkdir()
    (job / "net.bin").write_bytes(b"artifact")
    digest = hashlib.sha256(b"artifact").hexdigest()
    (job / "compile.json").write_text(json.dumps({
        "artifact": ["net.bin"], "files": {"net.bin": {"bytes": 8, "sha256": digest}}, "artifact_bytes": 8,
        "seconds": 1, "sha256": digest, "tools": {}, "quantization": None, "peak_memory_bytes": 123_000_000}))
"""
INFER = """
    import json, pathlib, sys
    import numpy as np, onnxruntime
    job = pathlib.Path(sys.argv[1])
    network = onnxruntime.InferenceSession(job / "model.onnx")
    with np.load(job / "samples.npz") as samples:
        rows = [network.run(None, {"image": sample[None]}) for sample in samples["image"]]
    names = [output.name for output in network.get_outputs()]
    np.savez(job / "outputs.npz", **{name: np.concatenate(row) for name, row in zip(names, zip(*rows))})
    (job / "infer.json").write_text(json.dumps({"samples": len(rows), "latency_ms": None, "device": "d", "batch": 1,
                                                "simulated": True, "stages": []}))
"""
RESULT = {"seconds": 0.5, "steps": {"transform": 0.2, "deploy": 0.3}, "peak_memory_bytes": 2_000_000_000,
          "runner_seconds_per_sample": 40.0}  # fmt: skip
BEFORE = {"stage": "export", "seconds": 7.0, "peak_memory_bytes": 900_000_000}


def vendor(folder, chips, precisions, calibrated, bare=None):
    folder.mkdir(parents=True)
    content = {
        "chips": chips, "title": "t", "artifact": "x", "precisions": precisions, "calibrated": calibrated,
        "engines": ["local"],
        "sdk": {"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
        "simulator": "none", "proven": "no", "operators": {"Conv": {}, "AveragePool": {}},
        "graph": {"opset": [11, 11], "ir_version": 7},
        "rungs": {"int8": [{"name": "max", "title": "m", "options": {"calibration": "max"}},
                           {"name": "other", "title": "o"}]} if "int8" in precisions else {},
    }  # fmt: skip
    (folder / "chip.yaml").write_text(yaml.safe_dump(content))
    for name, text in (("compile.py", COMPILE), ("infer.py", INFER)):
        (folder / name).write_text(textwrap.dedent(text))
    if bare is not None:
        (folder / "bare_commands.py").write_text(f"print('a tool speaks')\nprint({json.dumps(bare)!r})\n")
    lend_python(folder.parent.parent / ".venv" / folder.name)


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """An exported float network in out/bench/tester/float; the vendor folder family, with two chips."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the stages, which run as `python -m common`
    vendor(tmp_path / "vendors/family", ["first", "second"], ["fp32", "int8"], ["int8"], RESULT)
    folder = Path("out/bench/tester/float")
    source = {"kind": "random", "origin": "random", "path": None}
    spec = pose_spec().model_dump(mode="json")
    write_json(folder / "source.json", {"version": 1, "model": "tester", "spec": spec, "source": source})
    write_json(folder / "export.json", {"opset": 11, "ir_version": 7, "inputs": [], "outputs": [], "operators": {},
                                        "weights": "random", "source": source | {"sha256": None}})  # fmt: skip
    tiny_network(folder / "model.onnx")
    evaluation = make_set(tmp_path / "evaluation", images=3, seed=1)
    float_stages(folder, evaluation, ("samples", "reference"))
    return folder


@pytest.fixture
def calibration(tmp_path):
    return make_set(tmp_path / "calibration", images=12)


def test_vendors_that_offer_bare_commands_are_found(tmp_path, reference):
    vendor(tmp_path / "vendors/none", ["third"], ["int8"], ["int8"])
    vendor(tmp_path / "vendors/wide", ["fourth"], ["fp16", "hybrid"], ["hybrid"], RESULT)
    assert sorted(benched_cells()) == [("first", "int8"), ("fourth", "hybrid")]


def test_both_ways_are_measured_and_told(tmp_path, reference, calibration):
    measured = measure_compilation(reference, calibration, benched_cells(), [BEFORE], repeats=2)
    json.dumps(measured, allow_nan=False)
    assert measured["left_out"] == [] and (measured["network"], measured["limit"]) == ("tester", 1.10)
    (row,) = measured["chips"]
    assert (row["chip"], row["precision"], row["runs"], row["samples"]) == ("first", "int8", 2, 3)
    assert row["bare_seconds"] == 0.5 and row["bare_steps"] == RESULT["steps"]
    assert row["ratio"] == pytest.approx(row["seconds"] / 0.5) and row["seconds"] > 0
    assert row["peak_memory_bytes"] == 123_000_000 and row["bare_peak_memory_bytes"] == 2_000_000_000
    assert row["times_faster"] == pytest.approx(40.0 / row["infer_seconds_per_sample"])
    # The folder of the network under its own name is not touched.
    assert sorted(path.name for path in Path("out").iterdir() if not path.name.startswith(".")) == ["bench", "sets"]
    build = row["build"]
    assert [line["stage"] for line in build["stages"]] == [
        "export", "fix", "preflight", "calibrate", "job", "compile", "simulate", "compare", "evaluate", "draw", "proof",
        "report"]  # fmt: skip
    assert build["stages"][0] == BEFORE and all(line["seconds"] > 0 for line in build["stages"])
    assert all(10_000_000 < line["peak_memory_bytes"] < 1_000_000_000 for line in build["stages"][1:])
    assert build["seconds"] == pytest.approx(build["own_seconds"] + build["vendor_seconds"])
    vendor_seconds = [line["seconds"] for line in build["stages"] if line["stage"] in ("compile", "simulate")]
    assert build["vendor_seconds"] == pytest.approx(sum(vendor_seconds)) and build["own_seconds"] > 7
    assert build["peak_memory_bytes"] == build["own_peak_memory_bytes"] == 900_000_000
    assert not Path("out/bench/report").exists() and Path("out/bench/tester/first/int8/proof.json").exists()

    content = read_json(made_bench(tmp_path)) | {"compilation": measured}
    lines = table(content).splitlines()
    assert any(line.startswith("tester for first int8, by stage") for line in lines)
    assert "  export                                          7.0      900" in lines
    (line,) = [line for line in lines if line.startswith("first int8")]
    assert " 0.5 " in line and " 40.00" in line and ("above the limit" in line) == (row["ratio"] > 1.10)
    draw(content, tmp_path / "bench.png")
    assert cv2.imread(str(tmp_path / "bench.png")).shape[0] > 800
    row |= {"ratio": 1.11, "runner_seconds_per_sample": None, "times_faster": None}
    (line,) = [line for line in table(content).splitlines() if line.startswith("first int8")]
    assert line.endswith("above the limit") and " - " in line
    draw(content, tmp_path / "bench.png")
    row["ratio"] = 1.0999
    assert "above the limit" not in table(content)


def made_bench(tmp_path):
    """A bench.json of the other parts, with figures from nowhere."""
    part = {"name": "crop", "ours": 1.0, "plain": None}
    write_json(tmp_path / "bench.json", {
        "machine": {"processor": "p", "cores": 2, "threads": 2, "load_before": 0.1, "onnxruntime": "1"},
        "network": "n", "set": "s", "repeats": 1,
        "pipeline": {"parts": [part], "people": 1, "images": 1, "around": 1.0, "inference": 9.0, "share": 0.1,
                     "overlapped": 9.0},
        "grouping": {"people": 1, "width": 9, "height": 9, "ours": 1.0, "plain": 2.0, "merge": 1.0},
        "growth": {"network": "n", "fit": None, "runs": [
            {"images": 1, "people": 1, "seconds": 1.0, "inference_seconds": 0.5, "peak_bytes": 1}]},
    })  # fmt: skip
    return tmp_path / "bench.json"


def test_a_chip_that_cannot_be_measured_is_left_out_with_the_reason(tmp_path, reference, calibration):
    vendor(tmp_path / "vendors/bare", ["bare"], ["int8"], ["int8"], RESULT | {"seconds": 0})
    vendor(tmp_path / "vendors/gone", ["gone"], ["int8"], ["int8"], RESULT)
    (tmp_path / ".venv/gone/bin/python").unlink()
    cells = [(chip, "int8") for chip in ("gone", "bare", "first")]
    measured = measure_compilation(reference, calibration, cells, repeats=1)
    assert [row["chip"] for row in measured["chips"]] == ["first"]
    assert [row["chip"] for row in measured["left_out"]] == ["gone", "bare"]
    assert "environment of" in measured["left_out"][0]["why"] and "seconds" in measured["left_out"][1]["why"]
    content = read_json(made_bench(tmp_path)) | {"compilation": measured}
    assert "left out: gone: the environment" in table(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("print('done')", "Invalid JSON"),
        ("print('{\"seconds\": 1}')", "steps: Field required"),
        (f"print({json.dumps(RESULT | {'seconds': -1})!r})", "seconds: Input should be greater than 0"),
        (f"print({json.dumps(RESULT | {'seconds': float('nan')})!r})", "seconds"),
        (f"print({json.dumps(RESULT | {'steps': {'a': -2}})!r})", r"steps\.a"),
        (f"print({json.dumps(RESULT | {'more': 1})!r})", "more"),
        (f"print({json.dumps(RESULT)!r}); print('one more line')", "Invalid JSON"),
        (f"print({json.dumps(RESULT)!r}); raise SystemExit('ERROR: broke\\nHINT: mend')", "broke"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, reference, text, said):
    (tmp_path / "vendors/family/bare_commands.py").write_text(text)
    cell = tmp_path / "out/tester/first/int8"
    write_json(cell / "request.json", {"model": "tester", "chip": "first", "variant": "int8", "precision": "int8"})
    with pytest.raises(UserError, match=said):
        run_bare(Cell(cell))


def test_a_long_compilation_is_measured_once(monkeypatch, reference, calibration):
    monkeypatch.setattr(module, "LONG_SECONDS", 0.001)
    measured = measure_compilation(reference, calibration, benched_cells())
    assert measured["left_out"] == []
    assert measured["chips"][0]["runs"] == 1
