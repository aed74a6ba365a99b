"""Thresholds, channel scaling and wider layers of int8 with the real TPU-MLIR, on a network that needs them.

The modules import the vendor's package, so they run in its environment: a script of each test, one JSON line as result.
"""

import json

import numpy as np
import pytest
from onnx import helper, numpy_helper

from .conftest import ENVIRONMENT, OUTPUTS, SHAPE, failed, in_environment, model, run_script, write_job


def uneven_network():
    """Two convolutions in a row whose channels between them differ a hundredfold, beside a residual sum."""
    generator = np.random.default_rng(5)
    weights = []

    def convolution(name, source, inputs, outputs):
        values = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        if name == "one":
            values *= np.logspace(-1, 1, outputs)[:, None, None, None]
        if name == "two":
            values /= np.logspace(-1, 1, inputs)[None, :, None, None]
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
        weights.append(numpy_helper.from_array(np.full(outputs, 0.05, np.float32), f"{name}.b"))
        return helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [name], name, pads=[1] * 4)

    nodes = [
        convolution("stem", "image", SHAPE[0], 12),
        helper.make_node("Relu", ["stem"], ["stem.r"], "stem_relu"),
        convolution("one", "stem.r", 12, 12),
        helper.make_node("Relu", ["one"], ["one.r"], "one_relu"),
        convolution("two", "one.r", 12, 12),
        helper.make_node("Add", ["two", "stem.r"], ["sum"], "residual"),
        convolution("maps", "sum", 12, OUTPUTS["maps"]),
        convolution("tags.out", "sum", 12, OUTPUTS["tags.out"]),
    ]
    return model(nodes, weights, (1, *SHAPE), {name: (1, channels, *SHAPE[1:]) for name, channels in OUTPUTS.items()})


def rung(number, **options):
    return {"number": number, "name": "a rung", "options": options}


SEARCH = rung(2, calibration="search")
MIXED = rung(3, calibration="search", float_share=0.5, target_db=60)
WIDE = rung(6, whole=True)
KEPT = {"node": "one", "operator": "Conv", "outputs": ["one"]}


@pytest.fixture(scope="module")
def chosen(toolchain, tmp_path_factory):
    """{chip: {rung's number: {"report", "mode", "table", "wider", "outputs_db"}}} of uneven_network(), all rungs in
    one job folder a chip, plus what the scaled float graph differs from the unscaled one."""
    code = """
from job_file import read_job
from artifact_record import cache_folder
from channel_classes import channel_classes
from compile import test_inputs, top_graph
from graph_runner import GraphRunner
from graph_stages import TOP
from quantise import quantise
import compile, json
found = {}
for options in json.loads(sys.argv[3]):
    kept = options.pop("keep_float", [])
    content = json.loads((folder / "job.json").read_text()) | {"rung": options, "keep_float": kept}
    (folder / "job.json").write_text(json.dumps(content))
    job = read_job(folder)
    cache = cache_folder(job, [job.graph, job.calibration])
    inputs = test_inputs(job)[0]
    top = top_graph(job, cache, inputs)
    made = quantise(job, top, cache)
    # Channel scaling alone: weights that are whole steps already move the outputs, and are meant to.
    methods = made.report.get("methods", {"unscaled": 0})
    scaling = max(methods, key=methods.__getitem__).split(" ")[0]
    scaled = top.folder if scaling == "unscaled" else cache / scaling
    before, after = (GraphRunner(one / TOP).run(inputs) for one in (top.folder, scaled))
    found[options["number"]] = {
        "report": made.report, "mode": made.mode, "scaled": made.top.folder != top.folder,
        "table": made.table.read_text() if made.table else None,
        "wider": made.qtable.read_text().split() if made.qtable else [],
        "moved": max(float(np.abs(before[name] - after[name]).max() / np.abs(before[name]).max()) for name in before),
        "cache": sorted(path.name for path in cache.iterdir()),
    }
classes = channel_classes(top.folder / TOP)
found["classes"] = {name: [of.tolist(), classes.free[of].tolist()] for name, of in classes.of.items()}
print(json.dumps(found))
"""
    made = {}
    for chip in ("bm1684", "bm1684x"):
        folder = write_job(tmp_path_factory.mktemp("quantise") / chip, chip, "int8", 1, uneven_network())
        rungs = [rung(1, calibration="max"), SEARCH, MIXED, WIDE, rung(7, calibration="max") | {"keep_float": [KEPT]}]
        made[chip] = in_environment(toolchain, code, folder, json.dumps(rungs))
    return made


def db(report, name):
    return report["methods"][name]


@pytest.mark.parametrize("chip", ["bm1684", "bm1684x"])
def test_the_search_evens_out_channels_and_moves_no_float_output(chosen, chip):
    found = chosen[chip]["2"]
    assert found["scaled"]
    assert found["moved"] < 1e-5
    unscaled = db(found["report"], "unscaled max nearest")
    # An int8 step for channels that differ a hundredfold loses most of them; measured gain: 8 dB and more.
    assert max(found["report"]["methods"].values()) > unscaled + 3


def test_the_plain_rung_is_the_vendor_s_own_table(chosen):
    found = chosen["bm1684"]["1"]
    assert "quantization threshold calculation method: max" in found["table"]
    assert found["report"]["calibration"] == "run_calibration --cali_method max"
    assert not found["scaled"]
    assert found["report"]["float_layers"] == []


@pytest.mark.parametrize(("chip", "kind"), [("bm1684", "F32"), ("bm1684x", "F16")])
def test_the_most_harmful_layers_are_wider_until_the_outputs_are_close_enough(chosen, chip, kind):
    plain, found = chosen[chip]["2"], chosen[chip]["3"]
    report = found["report"]
    names, kinds = found["wider"][::2], found["wider"][1::2]
    assert set(names) == set(report["float_layers"])
    assert set(kinds) == {kind}
    assert 0 < len(names) <= 0.5 * report["layers"]
    assert report["measured_db"] > max(plain["report"]["methods"].values()) + 2
    worst = list(report["layer_db"])[: len(names)]
    assert set(worst) == set(names)


def test_a_layer_s_error_alone_is_smaller_than_that_of_the_whole_network(chosen):
    report = chosen["bm1684"]["3"]["report"]
    whole = max(report["methods"].values())
    assert all(alone > whole - 1 for alone in report["layer_db"].values())


@pytest.mark.parametrize(("chip", "kind"), [("bm1684", "F32"), ("bm1684x", "F16")])
def test_the_last_rung_leaves_nothing_int8(chosen, chip, kind):
    found = chosen[chip]["6"]
    assert found["mode"] == kind
    assert found["table"] is None
    assert len(found["report"]["float_layers"]) == found["report"]["layers"]


def test_a_later_rung_starts_where_an_earlier_one_ended(toolchain, chosen, tmp_path):
    """With search.json in the cache, changed by hand, the rung believes it instead of searching again."""
    code = """
from job_file import read_job
from artifact_record import cache_folder
from compile import test_inputs, top_graph
from quantise import quantise
from atomic_files import write_json, read_json
job = read_job(folder)
cache = cache_folder(job, [job.graph, job.calibration])
top = top_graph(job, cache, test_inputs(job)[0])
first = quantise(job, top, cache).report["methods"]
times = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.table")}
errors = read_json(cache / "search.json", "")
best = min(errors, key=errors.__getitem__)
chosen = "unscaled max nearest"
write_json(cache / "search.json", {name: (1e-9 if name == chosen else error) for name, error in errors.items()})
again = quantise(job, top, cache)
same = times == {path.name: path.stat().st_mtime_ns for path in cache.glob("*.table")}
print(json.dumps({"first": first, "best": best, "again": again.report["calibration"], "same": same}))
"""
    folder = write_job(tmp_path / "job", "bm1684x", "int8", 1, uneven_network(), rung=SEARCH)
    found = in_environment(toolchain, code, folder)
    assert found["best"] != "unscaled max nearest"
    assert found["again"].startswith("threshold max, channels unscaled")
    assert found["same"]
    # The same job in another folder gives the same figures.
    assert found["first"] == chosen["bm1684x"]["2"]["report"]["methods"]


def test_channels_that_an_addition_ties_together_share_their_factor(chosen):
    named = {name.partition("_")[0]: value for name, value in chosen["bm1684"]["classes"].items()}
    assert named["sum"][0] == named["two"][0] == named["stem.r"][0]
    assert named["one.r"][0] != named["stem.r"][0]
    assert all(named["sum"][1] + named["one.r"][1])
    for name in ("image", "maps", "tags.out"):
        assert not any(named[name][1]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": "best"}, "calibration: 'best' is none of"),
        ({"calibration": "max", "wide": True}, "'wide' is unknown"),
        ({"calibration": "search", "float_share": 1.5, "target_db": 30}, "float_share: 1.5"),
        ({"calibration": "max", "float_share": 0.5, "target_db": 30}, "needs calibration: search"),
        ({"calibration": "search", "float_share": 0.5}, "go together"),
        ({"whole": True, "wider": {"bm1684": "F16"}}, "names none of F32 for bm1684"),
    ],
)
def test_a_bad_rung_is_refused(toolchain, tmp_path, options, message):
    code = """
from failure import VendorError
from job_file import read_job
from rung_options import rung_options
try:
    rung_options(read_job(folder))
except VendorError as error:
    print(json.dumps(str(error)))
"""
    folder = write_job(tmp_path / "job", "bm1684", "int8", rung=rung(1, **options))
    assert message in in_environment(toolchain, code, folder)


def test_statistics_and_thresholds_are_those_of_the_values(toolchain, tmp_path):
    code = """
from activation_statistics import TensorStatistics, largest_value, least_squares, percentile
values = np.random.default_rng(0).standard_normal((4, 1, 3, 100, 100)).astype(np.float32)
values[..., 2, :, :] *= 3
values[3, 0, 1, 0, 0] = 50
found = TensorStatistics()
for value in values:
    found.add(value)
step = {}
for threshold in (10.0, 14.0, least_squares(found), 30.0, 50.0):
    rounded = np.clip(np.rint(values / (threshold / 127)), -127, 127) * (threshold / 127)
    step[threshold] = float(((rounded - values) ** 2).sum())
print(json.dumps({
    "channels": found.channels.tolist(), "exact": np.abs(values).max(axis=(0, 1, 3, 4)).tolist(),
    "count": int(found.counts.sum()), "size": values.size, "largest": largest_value(found),
    "percentile": percentile(found, 0.999), "quantile": float(np.quantile(np.abs(values), 0.999)),
    "errors": [step[key] for key in (10.0, 14.0, 30.0, 50.0)], "least": step[least_squares(found)],
}))
"""
    found = in_environment(toolchain, code, tmp_path)
    assert found["channels"] == pytest.approx(found["exact"])
    assert found["count"] == found["size"]
    assert found["largest"] == 50
    assert found["percentile"] == pytest.approx(found["quantile"], abs=0.05)
    assert found["least"] <= min(found["errors"])


def test_a_damaged_table_is_refused(toolchain, tmp_path):
    code = """
from calibration_table import read_table
from failure import VendorError
found = []
for text in ("# nothing\\n", "a 1.0 -1.0 1.0\\nb nan 0 1\\n", "a 1.0 -1.0\\n", "a 0.0 0.0 1.0\\n"):
    (folder / "table").write_text(text)
    try:
        read_table(folder / "table")
    except VendorError as error:
        found.append(str(error))
print(json.dumps(found))
"""
    found = in_environment(toolchain, code, tmp_path)
    assert ["is empty" in one or "holds no thresholds" in one for one in found] == [True] * 4


@pytest.mark.parametrize(("chip", "kind"), [("bm1684", "F32"), ("bm1684x", "F16")])
def test_a_layer_of_keep_float_is_wider_on_every_rung(chosen, chip, kind):
    found = chosen[chip]["7"]
    assert found["wider"][1::2] == [kind]
    assert found["wider"][::2] == found["report"]["float_layers"] == ["one.r_Relu"]  # the convolution is fused with it


def test_a_search_that_tpu_mlir_fails_names_the_tool(shadow, tmp_path):
    real = next(ENVIRONMENT.glob("lib/python3.10/site-packages")) / "tpu_mlir" / "bin" / "tpuc-opt"
    tool = f'#!/bin/sh\ncase "$*" in *convert-top-to-tpu*) exit 3;; esac\nexec {real} "$@"\n'
    python = shadow({"bin/tpuc-opt": tool})
    folder = write_job(tmp_path / "job", "bm1684", "int8", 1, uneven_network(), rung=SEARCH)
    message = failed(run_script("compile.py", folder, python=python))
    assert "tpuc-opt failed with exit code 3" in message
    assert not (folder / "compile.json").exists()
    assert not list(folder.glob(".partial-*"))
