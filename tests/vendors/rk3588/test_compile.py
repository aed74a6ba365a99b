"""compile.py, infer.py and layers.py on whole job folders, with the real toolkit and its simulator."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnxruntime

_spec = importlib.util.spec_from_file_location("rk3588_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, write_job, change_job, MIXED = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.MIXED,
)  # fmt: skip


def by_onnxruntime(folder: Path, batch: int = 1) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    samples = np.load(folder / "samples.npz")["image"]
    rows = [
        session.run(None, {"image": samples[np.minimum(np.arange(start, start + batch), len(samples) - 1)]})
        for start in range(0, len(samples), batch)
    ]
    names = [value.name for value in session.get_outputs()]
    return {name: np.concatenate([row[index] for row in rows])[: len(samples)] for index, name in enumerate(names)}


def error(folder: Path, batch: int = 1) -> float:
    exact, found = by_onnxruntime(folder, batch), np.load(folder / "outputs.npz")
    assert sorted(found.files) == sorted(exact)
    return max(float(((found[name] - exact[name]) ** 2).sum() / (exact[name] ** 2).sum()) for name in exact)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "compile.json").read_text())


def compile_again(folder: Path) -> dict:
    done = run_script("compile.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return record_of(folder)


def test_fp16_is_float_to_its_rounding_and_the_simulated_build_is_the_artifact(compiled):
    folder = compiled("fp16")
    assert 0 < error(folder) < 1e-5
    record = record_of(folder)
    assert record["artifact"] == ["net.rknn"] and record["quantization"] is None and record["way"] == "float16"
    assert record["tools"]["rknn-toolkit2"] == "2.5.0" and record["peak_memory_bytes"] > 100e6
    result = json.loads((folder / "infer.json").read_text())
    assert result["simulated"] is True and result["latency_ms"] is None and result["samples"] == 5
    assert "byte for byte" in result["device"] or "bit for bit" in result["device"]


def test_int8_the_toolkits_own_way_and_the_same_again(compiled, copied):
    folder = compiled("int8", {})
    assert 0.05 < error(folder) < 1  # the network is made so that one range for all channels is bad
    record = record_of(folder)
    assert record["way"] == "plain" and record["quantization"]["float_layers"] == []
    other = copied(folder)
    again = compile_again(other)
    assert again["probe_sha256"] == record["probe_sha256"]
    if again["addresses_fixed"]:
        # All but the addresses that the toolkit leaves in the file; on a busy machine its threads have other ones.
        first, second = (np.fromfile(place / "net.rknn", np.uint8) for place in (folder, other))
        assert len(first) == len(second) and (first != second).sum() < 2000


def test_mixed_precision_keeps_what_hurts_in_float16(compiled):
    plain, mixed = compiled("int8", {}), compiled("int8", MIXED)
    report = record_of(mixed)["quantization"]
    assert error(mixed) < 0.5 * error(plain)
    assert report["error_after"] < report["error_before"]
    assert 0 < len(report["float_layers"]) <= report["layers"] // 2
    assert {"uneven", "evening"} & set(report["float_layers"])
    assert set(record_of(mixed)["files"]) == {"net.rknn", "net.model", "net.data", "net.quantization.cfg"}


def test_a_later_rung_reuses_the_calibration_and_kept_layers_stay_float(compiled, copied):
    folder = copied(compiled("int8", MIXED))
    (cache,) = (folder / "cache").iterdir()
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert before
    kept = [{"node": "stem", "operator": "Conv", "outputs": ["stem"]}]
    change_job(folder, rung={"number": 2, "name": "x", "options": {"ranges": "least_squares"}}, keep_float=kept)
    report = compile_again(folder)["quantization"]
    assert report["float_layers"] == ["stem"]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == before
    assert run_script("infer.py", folder).returncode == 0
    # The tail, in layers, and the whole in float16 as the last rungs have them.
    change_job(folder, rung={"number": 3, "name": "x", "options": {"float_tail": 0.34}}, keep_float=[])
    tail = compile_again(folder)["quantization"]["float_layers"]
    assert "large" in tail and "stem" not in tail
    change_job(folder, rung={"number": 4, "name": "x", "options": {"all_float16": True}})
    assert compile_again(folder)["way"] == "float16"


def test_layers_are_measured_by_the_toolkit(compiled, copied):
    folder = copied(compiled("int8", MIXED))
    done = run_script("layers.py", folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "layers.json").read_text())
    rows = {row["name"]: row for row in found["layers"]}
    assert found["version"] == 1 and found["samples"] == 4 and "accuracy_analysis" in found["source"]
    assert {"large", "small"} <= set(rows) and {row["precision"] for row in rows.values()} == {"int8", "float16"}
    assert all(0.5 < row["cosine"] <= 1 for row in rows.values())
    assert rows["large"]["outputs"] == ["large"] and rows["large"]["sqnr_db"] > 15


def test_four_at_a_time_is_one_artifact(compiled):
    folder = compiled("int8", {}, 4)
    assert 0.05 < error(folder, 4) < 1
    assert record_of(folder)["batch"] == 4 and len(record_of(folder)["artifact"]) == 1


def test_another_chip_of_the_family(toolkit, tmp_path):
    folder = write_job(tmp_path / "job", "int8", {}, chip="rk3576")
    compile_again(folder)
    assert b'"target_platform":["rk3576"]' in (folder / "net.rknn").read_bytes()[-2000:]


def test_the_plain_calls_are_measured_for_the_benchmark(compiled):
    done = run_script("bare_commands.py", compiled("int8", {}))
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["seconds"] > measured["steps"]["build"] > 0 and measured["peak_memory_bytes"] > 100e6
