"""`make layers` with a vendor folder that is made up here."""

import csv
import json
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from common import layers as module
from common.basics.errors import UserError
from common.basics.files import sha256_file, write_json
from common.drawing.layers import NUMBER_PLACES, layer_figure, number_offsets, short, styles
from common.layers import LayerReport, read_report, table
from tests.conftest import lend_python

NAMES = ["stem", "body", "head", "scores"]
MEASURED = [
    {"name": "stem", "operator": "Conv", "precision": "int8", "cosine": 0.9999, "sqnr_db": 31.25, "outputs": ["t1"]},
    {"name": "body", "operator": "Conv", "precision": "int8", "cosine": 0.91, "sqnr_db": 7.5, "outputs": ["t2", "t3"]},
    {"name": "head", "operator": "Conv", "precision": "float", "cosine": 1, "sqnr_db": None},
    {"name": "scores", "operator": "Gemm", "precision": "int8", "cosine": -0.25, "sqnr_db": -3, "outputs": []},
]
REPORT = {"version": 1, "source": "a test", "samples": 3, "layers": MEASURED}
SCRIPT = """
    import json, pathlib, sys
    job = pathlib.Path(sys.argv[1])
    assert (job / "compile.json").exists() and len(sys.argv) == 2
    print("comparing")
    (job / "layers.json").write_text({!r})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with a model, a vendor folder whose layers.py reports REPORT, and the cells fp32 and int8."""
    vendor = tmp_path / "vendors/pretend"
    vendor.mkdir(parents=True)
    chip = {
        "chips": ["pretend"], "title": "Pretend", "artifact": "x", "precisions": ["fp32", "int8"],
        "calibrated": ["int8"], "engines": ["local"],
        "sdk": {"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
        "simulator": "none", "proven": "no", "batches": [1, 4],
        "graph": {"opset": [11, 11], "ir_version": 7}, "operators": {},
    }  # fmt: skip
    (vendor / "chip.yaml").write_text(yaml.safe_dump(chip))
    lend_python(tmp_path / ".venv/pretend")
    spec = {
        "name": "net", "task": "topdown_pose", "decode": {"kind": "heatmap", "keypoints": "coco17"},
        "input": {"shape": [1, 3, 64, 48], "color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
    }  # fmt: skip
    (tmp_path / "models/net").mkdir(parents=True)
    (tmp_path / "models/net/model.yaml").write_text(yaml.safe_dump(spec))
    write_json(tmp_path / "out/net/float/source.json", {"version": 1, "model": "net", "spec": spec, "source": {}})
    for name in ("export.json", "model.onnx"):
        (tmp_path / "out/net/float" / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    vendor_script(REPORT)
    for variant in ("fp32", "int8"):
        build(variant)
    return tmp_path


def vendor_script(report, source=SCRIPT):
    text = report if isinstance(report, str) else json.dumps(report)
    Path("vendors/pretend/layers.py").write_text(textwrap.dedent(source).format(text))


def build(variant):
    folder = Path("out/net/pretend") / variant
    precision, _, batch = variant.partition("-b")
    request = {"model": "net", "chip": "pretend", "variant": variant, "precision": precision, "batch": int(batch or 1)}
    write_json(folder / "request.json", request)
    write_json(folder / "job.json", {"inputs": [{"name": "image"}]})
    (folder / "net.bin").write_bytes(b"artifact")
    described = {"bytes": 8, "sha256": sha256_file(folder / "net.bin")}
    write_json(folder / "compile.json", {"artifact": ["net.bin"], "files": {"net.bin": described}})
    return folder


def layers(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["layers", "--model", "net", "--chip", "pretend", *words])
    module.main()


def test_the_table_the_list_and_the_picture(project, monkeypatch, capsys):
    layers(monkeypatch)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "net/pretend/int8: 4 layers (3 int8, 1 float), 3 samples; a test; worst first"
    assert said[1].split() == ["SQNR", "dB", "cosine", "place", "precision", "operator", "layer"]
    assert [line.split() for line in said[2:6]] == [
        ["-3.0", "-0.250000", "4", "int8", "Gemm", "scores"],
        ["7.5", "0.910000", "2", "int8", "Conv", "body"],
        ["31.2", "0.999900", "1", "int8", "Conv", "stem"],
        ["equal", "1.000000", "3", "float", "Conv", "head"],
    ]
    names = ["layer", "scores", "body", "stem", "head"]
    assert len({line.index(name) for line, name in zip(said[1:6], names, strict=True)}) == 1
    folder = project / "out/net/pretend/int8"
    with open(folder / "layers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES and [row["place"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[1]["outputs"] == "t2 t3" and rows[2]["sqnr_db"] == "" and float(rows[3]["sqnr_db"]) == -3
    assert cv2.imread(str(folder / "layers.png")).shape == (520, 1320, 3)
    assert (folder / "layers.log").read_text() == "comparing\n"
    assert sorted(path.name for path in folder.iterdir()) == [
        "compile.json", "job.json", "layers.csv", "layers.json", "layers.log", "layers.png", "net.bin", "request.json",
    ]  # fmt: skip


def test_which_cell_is_meant(project, monkeypatch, capsys):
    layers(monkeypatch, "--precision", "fp32")
    assert capsys.readouterr().out.startswith("net/pretend/fp32: ")
    build("int8-b4")
    layers(monkeypatch)
    assert capsys.readouterr().out.startswith("net/pretend/int8: ")
    layers(monkeypatch, "--precision", "int8-b4")
    assert capsys.readouterr().out.startswith("net/pretend/int8-b4: ")
    for variant in ("int8", "int8-b4"):
        Path(f"out/net/pretend/{variant}/compile.json").unlink()
    layers(monkeypatch)  # the only one that is built
    assert capsys.readouterr().out.startswith("net/pretend/fp32: ")


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("--precision", "int4"), "does not build precision 'int4'", "PRECISION="),
        (("--precision", "int8-b4"), "net/pretend/int8-b4 has not been built", "make pretend MODEL=net PRECISION=int8"),
        (("--chip", "float"), "float network loses nothing", "CHIP=name"),
        (("--chip", "none"), "unknown chip 'none'", "make list"),
        (("--chip", ""), "CHIP= is not set", "pretend"),
        (("--model", ""), "MODEL= is not set", "make list"),
    ],
)
def test_what_is_not_there_is_named(project, monkeypatch, words, said, hint):
    with pytest.raises(UserError, match=said) as error:
        layers(monkeypatch, *words)
    assert hint in error.value.hint


def test_nothing_built_is_said_with_the_command(project, monkeypatch):
    for variant in ("int8", "fp32"):
        Path(f"out/net/pretend/{variant}/compile.json").unlink()
    with pytest.raises(UserError, match="net/pretend/int8 has not been built") as error:
        layers(monkeypatch)
    assert error.value.hint == "make pretend MODEL=net PRECISION=int8"


def test_an_artifact_that_is_not_the_compiled_one_is_refused(project, monkeypatch):
    Path("out/net/pretend/int8/net.bin").write_bytes(b"artifice")
    with pytest.raises(UserError, match="not the file that"):
        layers(monkeypatch)


def test_a_vendor_without_layers_is_said(project, monkeypatch):
    Path("vendors/pretend/layers.py").unlink()
    with pytest.raises(UserError, match=r"vendors/pretend has no layers\.py"):
        layers(monkeypatch)


def test_a_script_that_lies_or_fails_leaves_nothing_of_yesterday(project, monkeypatch):
    folder = project / "out/net/pretend/int8"
    layers(monkeypatch)
    vendor_script("", "import sys\nprint('done')")
    with pytest.raises(UserError, match=r"wrote no layers\.json"):
        layers(monkeypatch)
    assert not (folder / "layers.json").exists()
    vendor_script("", "import sys\nsys.exit('ERROR: no such tensor\\nHINT: compile again')")
    with pytest.raises(UserError, match="no such tensor") as error:
        layers(monkeypatch)
    assert error.value.hint == "compile again"


def changed(path, value):
    """REPORT's JSON with one entry replaced; NaN and Infinity as Python writes them."""
    content = json.loads(json.dumps(REPORT))
    place = content
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["version"], 2, "version"),
        (["source"], "", "source"),
        (["samples"], 0, "samples"),
        (["samples"], 2.5, "samples"),
        (["layers"], [], "layers"),
        (["layers"], ..., "layers: Field required"),
        (["layers", 0, "cosine"], float("nan"), r"layers\.0\.cosine"),
        (["layers", 0, "cosine"], 1.01, r"layers\.0\.cosine"),
        (["layers", 0, "cosine"], None, r"layers\.0\.cosine"),
        (["layers", 1, "sqnr_db"], float("inf"), r"layers\.1\.sqnr_db"),
        (["layers", 1, "sqnr_db"], "7.5", r"layers\.1\.sqnr_db"),
        (["layers", 1, "sqnr_db"], ..., r"layers\.1\.sqnr_db: Field required"),
        (["layers", 2, "precision"], "", r"layers\.2\.precision"),
        (["layers", 2, "name"], "stem", "two layers are named 'stem'"),
        (["layers", 2, "sqnr"], 3.0, r"layers\.2\.sqnr: Extra inputs"),
        (["layers", 1, "outputs"], "t2", r"layers\.1\.outputs"),
        (["more"], 1, "more: Extra inputs"),
    ],
)
def test_a_report_that_breaks_the_contract_is_refused(project, monkeypatch, path, value, said):
    vendor_script(changed(path, value))
    with pytest.raises(UserError, match=rf"layers\.json: .*{said}") as error:
        layers(monkeypatch)
    assert "layers.log" in error.value.hint
    assert not Path("out/net/pretend/int8/layers.csv").exists()


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "layers.json").write_text(text)
    with pytest.raises(UserError, match=r"layers\.json"):
        read_report(tmp_path / "layers.json")


def many(count):
    return [
        {"name": f"n{index}", "operator": "Conv", "precision": "int8", "cosine": 0.5, "sqnr_db": float(index % 40)}
        for index in range(count)
    ]


def test_a_long_table_is_cut_and_says_so():
    lines = table(LayerReport.model_validate(REPORT | {"layers": many(80)})).splitlines()
    assert len(lines) == 1 + 25 + 1 and lines[-1] == "... 55 layers that lose less"
    assert lines[1].split()[-1] == "n0" and lines[2].split()[-1] == "n40"  # equal ones in the graph's order


def test_the_picture_tells_precisions_apart_and_takes_any_number_of_layers():
    kinds = styles(["int8", "float", "int8", "int16", "float32"])
    assert list(kinds) == ["int8", "float", "int16", "float32"]
    assert kinds["float"] == kinds["float32"] and not kinds["float"][2]
    assert len({kinds[name] for name in ("int8", "float", "int16")}) == 3
    assert len(short("a" * 200)) == 52 and short("conv1") == "conv1"
    wide = many(300)
    picture = layer_figure(wide, "title", "note")
    assert picture.shape == (520, 1320, 3)
    for layer in wide[::7]:
        layer["precision"] = "float"
    assert not np.array_equal(picture, layer_figure(wide, "title", "note"))
    for layers_ in (many(1), [many(1)[0] | {"sqnr_db": None}]):
        assert layer_figure(layers_, "title", "note").shape == (520, 1320, 3)


def test_numbers_of_rings_that_touch_do_not_cover_each_other():
    lonely = np.array([[100.0, 100.0], [300.0, 100.0]])
    assert number_offsets(lonely) == [NUMBER_PLACES[0]] * 2
    close = np.array([[100.0, 100.0], [106.0, 100.0], [112.0, 101.0]])
    middles = close + np.array(number_offsets(close)) * 100 / 72
    for first in range(3):
        for second in range(first):
            assert (np.abs(middles[first] - middles[second]) >= (16, 12)).any(), (first, second)
