"""device.py against a strict double of sophon.sail: no toolchain and no board are needed."""

import hashlib
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

from .conftest import OUTPUTS, SHAPE, VENDOR, failed, write_job

FLOAT = {"dtype": "BM_FLOAT32", "scale": 1.0}
NAMES = {"tags.out": "tags.out_Relu_f32", "maps": "maps_Conv_f32"}


def bmodel_bytes(chip: str) -> bytes:
    """A BModel's header and the part of its table of contents that is read on this side of the runtime."""
    text = struct.pack("<I", len(chip)) + chip.encode() + b"\0"
    # root offset; layout of 4 fields, of which only number 3 is stored; the table: where its layout is, and the string.
    layout = struct.pack("<HHHHHH", 12, 8, 0, 0, 0, 4)
    flatbuffer = struct.pack("<I", 16) + layout + struct.pack("<iI", 12, 4) + text
    return struct.pack("<4I", 0xFF55AAEE, 64, len(flatbuffer), 8) + bytes(48) + flatbuffer + bytes(8)


def described(data: bytes) -> dict:
    return {"small-net.bmodel": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}


@pytest.fixture
def board(tmp_path):
    """make(chip, batch, inputs, outputs) -> (job folder as compile.py leaves it, the double's folder)."""

    def make(chip="bm1684", batch=1, inputs=FLOAT, outputs=FLOAT, soldered="BM1684"):
        job = write_job(tmp_path / "job", chip, "int8", batch)
        (job / "small-net.bmodel").write_bytes(bmodel_bytes("BM1684X" if chip == "bm1684x" else "BM1684"))
        files = described((job / "small-net.bmodel").read_bytes())
        record = {"artifact": ["small-net.bmodel"], "files": files, "chip": chip, "precision": "int8", "batch": batch}
        (job / "compile.json").write_text(json.dumps(record | {"outputs": NAMES}))
        double = tmp_path / "double"
        double.mkdir()
        description = {
            "chip": soldered,
            "processors": 2,
            "graph": "net",
            "inputs": {"image": {"shape": [batch, *SHAPE], **inputs}},
            "outputs": dict.fromkeys(NAMES.values(), outputs),
        }
        (double / "board.json").write_text(json.dumps(description))
        generator = np.random.default_rng(7)
        with np.load(job / "samples.npz") as samples:
            known = {"image": samples["image"]}
        for output, name in NAMES.items():
            known[name] = generator.standard_normal((5, OUTPUTS[output], *SHAPE[1:])).astype(np.float32)
        np.savez(double / "known.npz", **known)
        return job, double

    return make


def run_device(job, double, **variables):
    path = os.pathsep.join([str(ROOT / "tests" / "doubles")])
    environment = {**os.environ, "PYTHONPATH": path, "SOPHON_DOUBLE": str(double), **variables}
    command = [sys.executable, str(VENDOR / "device.py"), str(job)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_board_gives_every_sample_s_outputs_under_their_onnx_names(board, batch):
    job, double = board(batch=batch)
    done = run_device(job, double)
    assert done.returncode == 0, done.stderr
    with np.load(job / "outputs.npz") as found, np.load(double / "known.npz") as known:
        assert set(found.files) == set(OUTPUTS)
        for output, name in NAMES.items():
            assert np.array_equal(found[output], known[name])
    result = json.loads((job / "device.json").read_text())
    assert result["simulated"] is False
    assert result["samples"] == 5
    assert result["latency_ms"] > 0
    assert "BM1684" in result["device"]
    assert not (job / "infer.json").exists()


def test_integer_inputs_and_outputs_are_scaled_as_the_runtime_says(board):
    job, double = board(inputs={"dtype": "BM_INT8", "scale": 31.75}, outputs={"dtype": "BM_INT8", "scale": 0.03125})
    done = run_device(job, double)
    assert done.returncode == 0, done.stderr
    with np.load(job / "outputs.npz") as found, np.load(double / "known.npz") as known:
        assert np.abs(found["maps"] - np.clip(known[NAMES["maps"]], -4, 127 * 0.03125)).max() <= 0.03125 / 2


@pytest.mark.parametrize(
    ("change", "variables", "words"),
    [
        ({"soldered": "BM1684X"}, {}, "sophon.sail refuses"),
        ({}, {"TPU_ID": "2"}, "no device 2"),
        ({}, {"TPU_ID": "first"}, "TPU_ID=first"),
        ({"inputs": {"dtype": "BM_UINT8", "scale": 1.0, "shape": [1, 3, 8, 8]}}, {}, "the BModel's inputs are"),
    ],
)
def test_what_does_not_fit_the_board_is_said_in_words(board, change, variables, words):
    job, double = board(**change)
    assert words in failed(run_device(job, double, **variables))
    assert not (job / "outputs.npz").exists()


def test_a_bmodel_for_the_other_chip_never_reaches_the_runtime(board):
    job, double = board()
    data = bmodel_bytes("BM1684X")
    (job / "small-net.bmodel").write_bytes(data)
    record = json.loads((job / "compile.json").read_text())
    record["files"] = described(data)
    (job / "compile.json").write_text(json.dumps(record))
    assert "is for BM1684X, not for BM1684" in failed(run_device(job, double))


def test_without_the_runtime_it_says_what_to_install(board):
    job, double = board()
    message = failed(run_device(job, double, PYTHONPATH=""))
    assert "sophon.sail cannot be loaded" in message


def test_the_double_refuses_what_the_documented_api_does_not_allow(board, monkeypatch):
    job, double = board()
    monkeypatch.setenv("SOPHON_DOUBLE", str(double))
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "doubles"))
    from sophon import sail

    path = str(job / "small-net.bmodel")
    with pytest.raises(TypeError):
        sail.Engine(job / "small-net.bmodel", 0, sail.IOMode.SYSIO)
    engine = sail.Engine(path, 0, sail.IOMode.SYSIO)
    with pytest.raises(RuntimeError):
        engine.get_input_names("other")
    with pytest.raises(RuntimeError):
        engine.process("net", {"image": np.zeros((1, *SHAPE))})  # float64
    with pytest.raises(RuntimeError):
        engine.process("net", {})
    with pytest.raises(AttributeError):
        engine.run("net")
