"""The last words of every build: the table, the exit code, and which step failed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.basics.wording import Naming
from common.summary import failures, headers, print_summary, table
from tests.common.cell_fixture import CHIP, make_cell

ROOT = Path(__file__).parents[2]
TOY, LOST = f"toy_pose/{CHIP}", f"lost_pose/{CHIP}"


def summary(*words):
    command = [sys.executable, "-m", "common.summary", "--chip", CHIP, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_green_build_prints_the_table_and_exits_0(made_cells, capsys):
    assert print_summary(CHIP, [f"{TOY}/fp32"], made_cells / "out") == 0
    printed = capsys.readouterr()
    header, row = printed.out.strip().splitlines()[:2]
    assert header.split() == ["cell", "artifact", "AP", "float", "AP", "chip", "OKS", "latency", "state"]
    assert row.split() == [f"{TOY}/fp32", "120", "kB", "1.000", "1.000", "1.0000", "7.1", "ms", "proven"]
    assert printed.out.strip().splitlines()[-1].endswith("out/report/index.html")
    assert printed.err == ""


def test_columns_are_aligned(made_cells, capsys):
    print_summary(CHIP, [f"{TOY}/fp32", f"{LOST}/int8"], made_cells / "out")
    header, *rows = capsys.readouterr().out.strip().splitlines()[:3]
    for title in ("artifact", "AP float", "AP chip", "OKS", "latency"):
        end = header.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end] == " " for row in rows)
    assert {row.index(word) for row, word in zip(rows, ("proven", "not judged"), strict=True)} == {
        header.index("state")
    }


def test_a_red_gate_exits_1_and_names_step_and_figures(made_cells, capsys):
    assert print_summary(CHIP, [f"{TOY}/fp32", f"{TOY}/int8"], made_cells / "out") == 1
    errors = capsys.readouterr().err.splitlines()
    drop = read_json(made_cells / "out" / TOY / "int8/metrics.json")["drop"]["AP"]
    assert len(errors) == 2
    assert errors[0].startswith(f"ERROR: {TOY}/int8 failed its proof: task metric: AP ")
    assert f"drop {drop:.4f}" in errors[0]
    assert errors[1].startswith("HINT: ")


def test_a_red_proof_stays_red_when_a_file_is_newer(made_cells, tmp_path, capsys):
    shutil.copytree(made_cells / "out", tmp_path / "out", copy_function=shutil.copy2)
    (tmp_path / "out" / TOY / "int8/compare.json").touch()
    assert print_summary(CHIP, [f"{TOY}/int8"], tmp_path / "out") == 1
    assert "out of date" in capsys.readouterr().out


def test_random_weights_are_marked_and_not_red(made_cells, capsys):
    assert print_summary(CHIP, [f"{LOST}/int8"], made_cells / "out") == 0
    printed = capsys.readouterr().out
    assert "not judged (random weights)" in printed
    assert "not judged: random weights" in printed


def test_without_a_network_the_models_are_listed_and_the_exit_is_2():
    result = summary("--model", "")
    assert result.returncode == 2
    assert result.stdout == ""
    for path in (ROOT / "models").glob("*/model.yaml"):
        assert f"  {path.parent.name}\n" in result.stderr
    assert result.stderr.startswith(f"ERROR: which network? make {CHIP} needs MODEL=")
    assert f"HINT: make {CHIP} MODEL=" in result.stderr


def test_a_cell_without_proof_is_an_error(tmp_path, test_chip):
    make_cell(tmp_path, "fp32", people=2)
    with pytest.raises(UserError, match=r"has no proof\.json"):
        print_summary(CHIP, [f"{TOY}/fp32"], tmp_path / "out")


def test_a_damaged_proof_is_an_error(tmp_path, test_chip):
    cell = make_cell(tmp_path, "fp32", people=2)
    (cell / "proof.json").write_text("{")
    with pytest.raises(UserError, match=r"proof\.json is not valid JSON"):
        print_summary(CHIP, [f"{TOY}/fp32"], tmp_path / "out")


def test_every_red_step_is_told(made_cells, tmp_path):
    from common.cells.cell_results import CellResults

    proof = read_json(made_cells / "out" / TOY / "int8/proof.json")
    proof["steps"][5] |= {"state": "failed", "figures": "OKS 0.1"}
    write_json(tmp_path / "proof.json", proof)
    assert [line.split(":")[0] for line in failures(CellResults(tmp_path))] == ["quantised agreement", "task metric"]


def test_colours_only_when_asked():
    titles = headers(Naming("AP", "OKS"), rungs=False)
    row = ("a/b/c", "1 kB", "0.9", "0.8", "0.99", "1 ms", "failed")
    assert "\x1b" not in table([titles, row])
    assert "\x1b[31mfailed\x1b[0m" in table([titles, row], color=True)
    assert table([titles, row], color=True).count("\x1b") == 2


def test_the_summary_loads_nothing_heavy():
    """`make` runs it each time, also when nothing was to be done, and has less than a second for all."""
    script = "import sys, json, common.summary; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"numpy", "pydantic", "matplotlib", "cv2", "yaml", "rich", "jinja2", "onnx", "torch"}
    assert not heavy & set(json.loads(loaded))


def facts(**changes):
    return {"metric": "AP", "metric_float": 0.9, "metric_chip": 0.8, "similarity": "OKS", "agreement": 0.99} | changes


NOTHING = {"metric": None, "metric_float": None, "metric_chip": None, "similarity": None, "agreement": None}
UNMEASURED = {"metric_float": None, "metric_chip": None}


@pytest.mark.parametrize(
    ("rows", "titles"),
    [
        ([facts(), facts()], ("AP float", "AP chip", "OKS")),
        ([facts(similarity="IoU")], ("AP float", "AP chip", "IoU")),
        ([facts(metric="PCKh"), facts(**NOTHING)], ("PCKh float", "PCKh chip", "OKS")),
        ([facts(), facts(metric="PCKh")], ("float", "chip", "OKS")),
        ([facts(), facts(similarity="IoU")], ("AP float", "AP chip", "agreement")),
        ([facts(metric="PCKh"), facts(**UNMEASURED)], ("PCKh float", "PCKh chip", "OKS")),
        ([facts(**NOTHING)], ("AP float", "AP chip", "OKS")),
        ([], ("AP float", "AP chip", "OKS")),
    ],
)
def test_headers_name_what_all_rows_share(rows, titles):
    naming = Naming.of(rows)
    assert (naming.header("float"), naming.header("chip"), naming.agreement_header) == titles


def test_numbers_bear_their_names_where_the_headers_cannot():
    pckh, detector, unknown = facts(metric="PCKh"), facts(similarity="IoU"), facts(**NOTHING)
    alone, mixed = Naming.of([pckh]), Naming.of([pckh, detector, unknown])
    assert (alone.metric_of(pckh, "float"), alone.agreement_of(pckh)) == ("0.900", "0.9900")
    assert (mixed.metric_of(pckh, "chip"), mixed.agreement_of(pckh)) == ("PCKh 0.800", "OKS 0.9900")
    assert (mixed.metric_of(detector, "float"), mixed.agreement_of(detector)) == ("AP 0.900", "IoU 0.9900")
    assert (mixed.metric_of(unknown, "float"), mixed.agreement_of(unknown)) == ("-", "-")


def test_two_tasks_in_one_table(whole_cells, capsys):
    names = [f"{task}/{CHIP}/fp32" for task in ("bottomup_pose", "detection")]
    assert print_summary(CHIP, names, whole_cells / "out") == 0
    header, *rows = capsys.readouterr().out.strip().splitlines()[:3]
    assert header.split() == ["cell", "artifact", "AP", "float", "AP", "chip", "agreement", "latency", "state"]
    for row, similarity in zip(rows, ("OKS", "IoU"), strict=True):
        assert row.split()[3:7] == ["1.000", "1.000", similarity, "1.0000"]
        end = header.index("agreement") + len("agreement")
        assert row[end - 1] != " " and row[end] == " "


def test_the_hint_of_a_red_detector_names_pictures_that_are_there(whole_cells, tmp_path, capsys):
    shutil.copytree(whole_cells / "out/detection", tmp_path / "out/detection", copy_function=shutil.copy2)
    cell = tmp_path / "out/detection" / CHIP / "int8"
    write_json(cell / "proof.json", read_json(cell / "proof.json") | {"state": "failed"})
    assert print_summary(CHIP, [f"detection/{CHIP}/int8"], tmp_path / "out") == 1
    hint = capsys.readouterr().err.splitlines()[-1]
    for word in hint.replace(";", "").split():
        if word.endswith(".png"):
            assert Path(word).exists()
    assert "boxes_worst.png" in hint
