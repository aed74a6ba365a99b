"""Everything from outside that can be wrong: one message, one hint, nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

_spec = importlib.util.spec_from_file_location("rk3588_conftest_bad", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, write_job, change_job, failed, left_over, VENDOR = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.failed, _conftest.left_over,
    _conftest.VENDOR,
)  # fmt: skip

SABOTAGE = """
import signal
_real_new = Commands._new
def _new(self):
    rknn = _real_new(self)
    setattr(rknn, "{call}", lambda *arguments, **options: {action})
    return rknn
Commands._new = _new


def main("""


def sabotaged(folder: Path, call: str, action: str) -> Path:
    """A copy of the vendor folder, in which a call of the toolkit does something else."""
    copy = Path(shutil.copytree(VENDOR, folder / "vendor", ignore=shutil.ignore_patterns("__pycache__")))
    child = copy / "toolkit_child.py"
    text = child.read_text()
    assert text.count("\n\ndef main(") == 1
    child.write_text(text.replace("\n\ndef main(", SABOTAGE.format(call=call, action=action)))
    return copy


@pytest.mark.parametrize(
    ("call", "action", "words"),
    [
        ("build", "-1", ["build", "returned -1"]),
        ("build", "os.kill(os.getpid(), signal.SIGKILL)", ["killed by SIGKILL", "build"]),
        ("load_onnx", "os.kill(os.getpid(), signal.SIGSEGV)", ["killed by SIGSEGV"]),
        ("config", "sys.exit(0)", ["config", "exit(0)"]),
        ("export_rknn", "0", ["export_rknn", "wrote no"]),
        ("export_rknn", "Path('artifact.rknn').write_bytes(b'RKNN') and 0", ["not", "RKNN"]),
    ],
)
def test_a_call_of_the_toolkit_that_fails(toolkit, tmp_path, call, action, words):
    folder = write_job(tmp_path / "job", "fp16")
    (folder / "net.rknn").write_bytes(b"of an earlier build")
    (folder / "compile.json").write_text(json.dumps({"artifact": ["net.rknn"], "files": {"net.rknn": {}}}))
    done = run_script("compile.py", folder, folder=sabotaged(tmp_path, call, action))
    failed(done, *words)
    assert left_over(folder) == [] and (folder / "toolkit.log").exists()


def test_step_one_without_its_files(toolkit, tmp_path):
    folder = write_job(tmp_path / "job", "hybrid")
    failed(
        run_script("compile.py", folder, folder=sabotaged(tmp_path, "hybrid_quantization_step1", "0")),
        "hybrid_quantization_step1",
        "wrote no",
    )
    assert left_over(folder) == []


def test_an_operator_that_the_toolkit_does_not_know(toolkit, tmp_path):
    nodes = [helper.make_node("NonZero", ["image"], ["z"], "z"), helper.make_node("Cast", ["z"], ["y"], "c", to=1)]
    graph = _conftest.model(nodes, [], (1, 3, 16, 12), {"y": (4, 576)})
    folder = write_job(tmp_path / "job", "fp16", graph=graph)
    failed(run_script("compile.py", folder), "RKNN-Toolkit2's build failed", "NonZero('z')")
    assert left_over(folder) == []


def test_truncated_damaged_and_foreign_artifacts(compiled, copied):
    folder = copied(compiled("fp16"))
    path = folder / "net.rknn"
    record, data = json.loads((folder / "compile.json").read_text()), path.read_bytes()
    (folder / "outputs.npz").unlink()
    path.write_bytes(data[:-10])
    failed(run_script("infer.py", folder), "truncated")
    path.write_bytes(data[:-1] + b" ")
    failed(run_script("infer.py", folder), "sha256")
    path.unlink()
    failed(run_script("infer.py", folder), "missing")

    def as_if_compiled(content: bytes) -> None:
        from hashlib import sha256

        path.write_bytes(content)
        digest = sha256(content).hexdigest()
        files = {"net.rknn": {"bytes": len(content), "sha256": digest}}
        (folder / "compile.json").write_text(json.dumps(record | {"files": files, "sha256": digest}))

    # With a record that fits: the file itself says what it is.
    as_if_compiled(data.replace(b'["rk3588"]', b'["rk3566"]'))
    failed(run_script("infer.py", folder), "for rk3566, not for rk3588")
    as_if_compiled(data[:-10])
    failed(run_script("infer.py", folder), "truncated")
    as_if_compiled(data[:16] + struct.pack("<Q", 1 << 40) + data[24:])
    failed(run_script("infer.py", folder), "truncated")
    as_if_compiled(b"not at all")
    failed(run_script("infer.py", folder), "no .rknn")
    assert not (folder / "outputs.npz").exists()


def test_another_graph_than_the_artifacts_is_not_simulated(compiled, copied):
    folder = copied(compiled("fp16"))
    model = onnx.load(folder / "model.onnx")
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0] *= 1.5
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
    onnx.save(model, folder / "model.onnx")
    failed(run_script("infer.py", folder), "gives another one than")


def test_calibration_that_changed_after_the_compilation(compiled, copied):
    folder = copied(compiled("int8", {}))
    for path in (folder / "calib").glob("*.npy"):
        np.save(path, np.load(path) * 3)
    failed(run_script("infer.py", folder), "gives another one than")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chip": "rk1808"}, ["rk1808"]),
        ({"precision": "fp32"}, ["fp32"]),
        ({"rung": {"number": 1, "name": "x", "options": {"ranges": "widest"}}}, ["widest"]),
        ({"rung": {"number": 1, "name": "x", "options": {"float_share": 3}}}, ["float_share", "3"]),
        ({"rung": {"number": 1, "name": "x", "options": {"speed": 3}}}, ["speed"]),
        ({"graph": "none.onnx"}, ["none.onnx is missing"]),
        ({"graph": "samples.npz"}, ["no readable ONNX"]),
    ],
)
def test_a_job_that_cannot_be(toolkit, tmp_path, change, words):
    folder = write_job(tmp_path / "job", "int8")
    change_job(folder, **change)
    failed(run_script("compile.py", folder), *words)
    assert left_over(folder) == []


def test_calibration_tensors_that_cannot_be(toolkit, tmp_path):
    folder = write_job(tmp_path / "job", "int8")
    np.save(folder / "calib" / "0003.npy", np.full((1, 3, 16, 12), np.nan, np.float32))
    failed(run_script("compile.py", folder), "0003.npy", "NaN")
    shutil.rmtree(folder / "calib")
    (folder / "calib").mkdir()
    failed(run_script("compile.py", folder), "calib holds no .npy")
    assert left_over(folder) == []


def test_a_kept_node_that_the_toolkit_does_not_have(compiled, copied):
    folder = copied(compiled("int8", _conftest.MIXED))
    change_job(folder, keep_float=[{"node": "nowhere", "operator": "Conv", "outputs": ["nowhere"]}])
    failed(run_script("compile.py", folder), "KEEP_FLOAT names nowhere")
    assert left_over(folder) == []


def test_an_interrupt_leaves_nothing(toolkit, tmp_path):
    folder = write_job(tmp_path / "job", "hybrid")
    process = subprocess.Popen(
        [str(_conftest.PYTHON), str(VENDOR / "compile.py"), str(folder)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (folder / "toolkit.log").exists() or not (folder / "toolkit.log").stat().st_size:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "ERROR: interrupted" in message and "Traceback" not in message
    assert left_over(folder) == []
