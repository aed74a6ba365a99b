"""`make bench`: latency in float and quantised, where the chip's runtime runs here: a vendor folder is made up."""

import json
from pathlib import Path

import pytest

from common.basics.files import read_json
from common.bench import latency as module
from common.bench.figure import draw
from common.bench.latency import measure_latency, timed_chips
from common.bench.report import table
from tests.common.bench.test_bench_compilation import calibration, made_bench, reference, vendor

__all__ = ["calibration", "reference"]  # fixtures
INFER = """
import json, pathlib, sys
job = pathlib.Path(sys.argv[1])
told, runs = json.loads((job / "job.json").read_text()), job / "runs"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
(job / "outputs.npz").write_bytes(b"outputs")
latency = {"fp32": 20.0, "int8": 8.0}[told["precision"]] + 10 * (len(runs.read_text()) != 2)  # the second is the least
(job / "infer.json").write_text(json.dumps({"latency_ms": latency, "device": "Runtime 1"}))
"""


@pytest.fixture
def timed(tmp_path, reference, monkeypatch):
    """The vendor folder `quick`, whose runtime runs here; its compile.py takes what it is given."""
    folder = tmp_path / "vendors/quick"
    vendor(folder, ["quick"], ["fp32", "int8"], ["int8"])
    (folder / "chip.yaml").write_text((folder / "chip.yaml").read_text() + "host_runtime: true\n")
    text = (folder / "compile.py").read_text()
    (folder / "compile.py").write_text("".join(line for line in text.splitlines(True) if "assert" not in line))
    (folder / "infer.py").write_text(INFER)
    monkeypatch.setattr(module, "CALIBRATION_SAMPLES", 5)
    return folder


def test_the_least_of_the_runs_of_either_precision(timed, reference, calibration, tmp_path):
    assert list(timed_chips()) == ["quick"]  # `family` says nothing of its runtime
    measured = measure_latency([reference], calibration, Path("evaluation"), repeats=3)
    json.dumps(measured, allow_nan=False)
    assert measured["left_out"] == []
    (row,) = measured["rows"]
    assert (row["network"], row["chip"], row["device"]) == ("tester", "quick", "Runtime 1")
    assert (row["float"], row["float_ms"], row["quantised"], row["quantised_ms"]) == ("fp32", 20.0, "int8", 8.0)
    assert row["times_faster"] == 2.5 and row["float_bytes"] == row["quantised_bytes"] == 8
    assert len(list((tmp_path / "out/bench/tester/quick/int8/calib").glob("*.npy"))) == 5
    content = read_json(made_bench(tmp_path)) | {"latency": measured}
    (line,) = [line for line in table(content).splitlines() if line.startswith("tester on quick")]
    assert line.split()[-3:] == ["20.0", "8.0", "2.50"]
    draw(content, tmp_path / "bench.png")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda folder: (folder / "infer.py").write_text(INFER.replace('"latency_ms": latency', '"latency_ms": None')),
         "tells no latency"),
        (lambda folder: (folder / "compile.py").write_text("raise SystemExit('ERROR: broke')"), "broke"),
        (lambda folder: (folder.parent.parent / ".venv/quick/bin/python").unlink(), "environment of"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_left_out_with_the_reason(timed, reference, calibration, tmp_path, change, why):
    change(timed)
    measured = measure_latency([reference], calibration, Path("evaluation"), repeats=1)
    assert measured["rows"] == [] and measured["left_out"][0]["chip"] == "quick"
    assert why in measured["left_out"][0]["why"]
    content = read_json(made_bench(tmp_path)) | {"latency": measured}
    assert "left out: latency on quick: " in table(content)
