"""The rungs of int8: each goes on from the one before it, and none is worse."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from onnx import helper, numpy_helper

_spec = importlib.util.spec_from_file_location("ncnn_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, network, SHAPE, VENDOR = _conftest.run_script, _conftest.network, _conftest.SHAPE, _conftest.VENDOR

from failure import VendorError  # noqa: E402
from float_layers import limit, tail_layers  # noqa: E402
from param_file import read_param  # noqa: E402
from quantize import load_network, quantize_network, write_network  # noqa: E402
from rung import PLAIN, rung_of  # noqa: E402
from scale_table import read_table  # noqa: E402
from stages import Stages  # noqa: E402

RUNGS = yaml.safe_load((VENDOR / "chip.yaml").read_text())["rungs"]["int8"]


def compiled(folder: Path, options: dict | None = None, **changes: object) -> dict:
    """Compile with these options of a rung and other changes of job.json; gives compile.json."""
    path = folder / "job.json"
    job = json.loads(path.read_text()) | changes
    job["rung"] = {"number": 1, "name": "a", "options": options} if options else None
    path.write_text(json.dumps(job))
    done = run_script("compile.py", folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "compile.json").read_text())


def output_error(folder: Path) -> float:
    """Squared error of the artifact's outputs on the job's samples, relative to onnxruntime's."""
    done = run_script("infer.py", folder)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    samples = np.load(folder / "samples.npz")["image"]
    exact = np.concatenate([session.run(None, {"image": sample[None]})[0] for sample in samples])
    return float(((np.load(folder / "outputs.npz")["last"] - exact) ** 2).sum() / (exact**2).sum())


def test_the_rungs_climb(make_job, tmp_path):
    folder = make_job("int8", network(hurting=True))
    errors, floats, shas, seen = [], [], [], {}
    for rung in RUNGS:
        record = compiled(folder, rung["options"])
        report = record["quantization"]
        floats.append(len(report["float_layers"]))
        shas.append(record["sha256"])
        errors.append(output_error(folder))
        assert report["layers"] == 5 and isinstance(report["calibration"], str)
        # Whatever the rung: the artifact is what the writer makes of the float files and the table beside it.
        float_network = load_network(folder / "small.float.param", folder / "small.float.bin")
        made = tmp_path / "o.param", tmp_path / "o.bin"
        write_network(quantize_network(float_network, read_table(folder / "small.table")), *made)
        assert made[0].read_bytes() == (folder / "small.ncnn.param").read_bytes()
        assert made[1].read_bytes() == (folder / "small.ncnn.bin").read_bytes()
        stages = {path.name: path.stat().st_mtime_ns for path in folder.glob("cache/*/*")}
        assert seen.items() <= stages.items()  # nothing that was known has been written again
        seen = stages
    assert floats == sorted(floats) and floats[0] == 0 and floats[-1] == 5
    assert errors[2] < 0.7 * errors[0] and errors[3] <= 1.1 * errors[2] and errors[4] < 1e-6
    assert len(set(shas)) >= 4
    assert {"convert", "layerwise.json", "tail.json"} & set(seen) == {"layerwise.json", "tail.json"}

    # A rung that is reached directly is the rung that was climbed to, and no rung at all is the third.
    direct = make_job("int8", network(hurting=True), name="direct")
    assert compiled(direct, RUNGS[2]["options"])["sha256"] == shas[2]
    assert compiled(direct)["sha256"] == shas[2]


def test_corrected_biases_are_in_the_files(make_job):
    """A convolution whose weights all round down shifts its mean output: the correction is kept, and is written."""
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "two.w":
            weight = numpy_helper.to_array(tensor).copy()
            weight[:, 0, 0, 0] = 127.0  # the scale is 1, and the other weights lose what is beyond the point
            weight[:, 1:] = 3.4
            tensor.CopyFrom(numpy_helper.from_array(weight, "two.w"))
    folder = make_job("int8", model)
    report = compiled(folder, RUNGS[1]["options"])["quantization"]
    assert report["bias_corrected"] and report["error_after"] < 0.8 * report["error_layer_by_layer"]
    (cached,) = folder.glob("cache/*/float")
    before = load_network(cached / "model.ncnn.param", cached / "model.ncnn.bin")
    after = load_network(folder / "small.float.param", folder / "small.float.bin")
    expected = json.loads((cached.parent / "biases.json").read_text())
    for old, new in zip(before.layers, after.layers, strict=True):
        for name, array in new.weights.items():
            if name == "bias" and new.name in report["bias_corrected"]:
                assert array.tolist() == expected[new.name] != old.weights[name].tolist()
            else:
                np.testing.assert_array_equal(array, old.weights[name])


def test_what_is_known_is_used_and_what_changed_is_not(make_job):
    folder = make_job("int8")
    first = compiled(folder, RUNGS[0]["options"])["sha256"]
    (statistics,) = folder.glob("cache/*/statistics.json")
    content = json.loads(statistics.read_text())
    for scales in content["scales"].values():
        scales.update({name: scale * 3 for name, scale in scales.items()})
    statistics.write_text(json.dumps(content))
    (methods,) = folder.glob("cache/*/methods.json")
    methods.unlink()
    assert compiled(folder, RUNGS[0]["options"])["sha256"] != first  # it did read them

    statistics.write_text('{"scales": ')  # damaged: computed again
    methods.unlink()
    assert compiled(folder, RUNGS[0]["options"])["sha256"] == first

    key = statistics.parent.name
    np.save(folder / "calib" / "0000.npy", np.full(SHAPE, 50, np.float32))
    assert compiled(folder, RUNGS[0]["options"])["sha256"] != first
    (other,) = (folder / "cache").iterdir()
    assert other.name != key


@pytest.mark.parametrize(
    "options",
    [
        {"scales": "best"},
        {"float": "tail"},
        {"scales": "method", "float": "sensitive"},
        {"weights": "float16", "scales": "layerwise"},
        {"calibration": "kl"},
        {"scales": ["method"]},
    ],
)
def test_an_unknown_rung_is_refused(options):
    with pytest.raises(VendorError, match="rung"):
        rung_of(options)


def test_every_rung_of_the_chip_file_is_known():
    found = [rung_of(rung["options"]) for rung in RUNGS]
    assert len(set(found)) == len(found) == 5 and PLAIN == rung_of({}) == found[2]


def test_a_bad_rung_leaves_nothing(make_job):
    folder = make_job("int8")
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(job | {"rung": {"options": {"scales": "all"}}}))
    done = run_script("compile.py", folder)
    assert done.returncode == 1 and "ERROR: job.json: a rung" in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "compile.json").exists() and not list(folder.glob("small.*"))


def test_a_batch_is_refused(make_job):
    folder = make_job("fp32")
    job = json.loads((folder / "job.json").read_text())
    job["batch"] = 2
    job["inputs"][0]["shape"][0] = 2
    (folder / "job.json").write_text(json.dumps(job))
    done = run_script("compile.py", folder)
    assert done.returncode == 1 and "BATCH=1" in done.stderr


def kept(node: str, operator: str, output: str) -> dict:
    return {"node": node, "operator": operator, "outputs": [output]}


@pytest.mark.parametrize("rung", [RUNGS[0], RUNGS[1]], ids=lambda rung: rung["name"])
def test_what_the_user_keeps_float_stays_float(make_job, rung):
    folder = make_job("int8")
    plain = compiled(folder, rung["options"])
    asked = [kept("two", "Conv", "two"), kept("two_r", "Relu", "two.r")]
    record = compiled(folder, rung["options"], keep_float=asked)
    report = record["quantization"]
    (name,) = report["float_layers"]
    assert report["asked_float"] == [name] and report["per_layer"][name]["why"] == "KEEP_FLOAT"
    layers = {layer.name: layer for layer in read_param(folder / "small.ncnn.param").layers}
    assert 8 not in layers[name].parameters and sum(8 in layer.parameters for layer in layers.values()) == 4
    assert record["artifact_bytes"] > plain["artifact_bytes"]
    assert output_error(folder) < 0.003
    assert compiled(folder, rung["options"], keep_float=[])["sha256"] == plain["sha256"]


def test_nodes_that_cannot_be_kept_are_named(make_job):
    folder = make_job("int8", samples=4)
    everything = [kept(name, "Conv", name) for name in ("stem", "one", "two", "hurt", "last")]
    for asked, words in (
        ([kept("nobody", "Conv", "nobody")], "nobody"),
        ([kept("two", "Gemm", "two")], "two"),
        (everything, "every layer that could be int8 is kept float"),
    ):
        job = json.loads((folder / "job.json").read_text()) | {"keep_float": asked}
        (folder / "job.json").write_text(json.dumps(job))
        done = run_script("compile.py", folder)
        assert done.returncode == 1 and words in done.stderr and "HINT: " in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and not (folder / "compile.json").exists()


def test_matrix_products_stay_float_when_asked(make_job):
    generator = np.random.default_rng(3)
    weights = {"w": (8, 3, 3, 3), "m": (24, 24)}
    tensors = [numpy_helper.from_array(generator.standard_normal(s).astype(np.float32), n) for n, s in weights.items()]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], "c", pads=[1] * 4),
        helper.make_node("MatMul", ["c", "m"], ["last"], "product"),
    ]
    folder = make_job("int8", _conftest.model(nodes, tensors, SHAPE, {"last": (1, 8, 32, 24)}), samples=4)
    asked = [kept("product", "MatMul", "last")]
    report = compiled(folder, RUNGS[0]["options"], keep_float=asked)["quantization"]
    (name,) = report["asked_float"]
    layers = {layer.name: layer for layer in read_param(folder / "small.ncnn.param").layers}
    assert layers[name].type == "Gemm" and 18 not in layers[name].parameters  # 18: how it is quantised
    assert 0 < output_error(folder) < 0.003


def test_a_probe_sees_what_the_whole_network_does(make_job, tmp_path):
    """One layer int8: by injection of its output, and by a model written for it, the outputs are the same."""
    folder = make_job("int8", samples=8)
    compiled(folder, RUNGS[0]["options"])
    shutil.copytree(next(folder.glob("cache/*/float")), tmp_path / "float")
    script = """
import json, sys
from pathlib import Path
import numpy as np
from layer_probe import LayerProbe, descendants
from network_runner import Runner
from quantize import load_network, quantizable_layers
from scale_search import Judge
from scale_table import ScaleTable, read_table
folder, job = Path(sys.argv[1]), Path(sys.argv[2])
files = folder / "model.ncnn.param", folder / "model.ncnn.bin"
network, runner = load_network(*files, True), Runner(*files)
table = read_table(job / "small.table")
sample = np.load(job / "calib" / "0000.npy")
probe = LayerProbe(network, runner, ["out0"], folder)
probe.look_at(sample)
found = []
for layer in quantizable_layers(network):
    name = layer.name
    value = probe.int8_output(layer, table.weights[name], table.activations[name])
    (injected,) = probe.outputs_with(layer, value)
    alone = ScaleTable({name: table.weights[name]}, {name: table.activations[name]})
    judge = Judge(network, ["out0"], folder, [sample], [[injected]])
    reference = float(((injected - probe.reference[0]) ** 2).sum() / (probe.reference[0] ** 2).sum())
    found.append([name, reference, judge.error(alone, {}), len(descendants(network, layer))])
print(json.dumps(found))
"""
    command = [str(_conftest.PYTHON), "-c", script, str(tmp_path / "float"), str(folder)]
    done = subprocess.run(command, cwd=VENDOR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 5
    for name, error, difference, _ in found:
        # What remains is the float16 rounding of the other layers' weights.
        assert error > 1e-6 and difference < 0.1 * error, name
    after = [count for *_, count in found]
    assert after == sorted(after, reverse=True) and after[-1] == 0


def test_the_tail_has_no_gap_and_keeps_the_limits():
    names = list("abcdefgh")
    assert tail_layers(names, ["b", "g"], 5, lambda tail: True) == ["e", "f", "h"]
    assert tail_layers(names, ["b"], 8, lambda tail: len(tail) <= 2) == ["g", "h"]
    assert tail_layers(names, [], 100, lambda tail: True) == list("bcdefgh")  # one is int8 at least
    assert tail_layers(names, ["a"], 1, lambda tail: True) == []
    assert (limit(54, 0.2), limit(5, 0.2)) == (11, 1)


def test_stages_are_kept_apart_by_what_stays_float(tmp_path):
    calls = []

    def compute() -> dict:
        calls.append(1)
        return {"n": len(calls)}

    plain, other = Stages(tmp_path, ()), Stages(tmp_path, ("a",))
    assert [plain.remember("x", compute), plain.remember("x", compute)] == [{"n": 1}] * 2
    assert other.remember("x", compute) == {"n": 2}
    assert other.remember("x", compute, of_network=True) == {"n": 1}
    assert len(calls) == 2
