"""`make all`: every cell that can be built, no stop at the first failure, one line a cell, and nothing done twice."""

import json

from tests.conftest import copy_of_project

BROKEN = """
import json, sys
if json.load(open(sys.argv[1] + "/job.json"))["precision"] == "int8":
    print("ERROR: broken on purpose", "HINT: mend it", sep="\\n")
    sys.exit(1)
"""


def lines_of(result):
    """{cell: (state, the rest)} of the last table that was printed."""
    found = {}
    for line in result.stdout.splitlines():
        words = line.split(None, 2)
        if len(words) > 1 and words[0] in ("ok", "skipped", "failed"):
            found[words[1]] = (words[0], words[2] if len(words) > 2 else "")
    return found


def test_a_failure_stops_nothing_else_and_the_next_run_mends_it(demo_copy):
    chips = "CHIPS=ncnn hailo8l"  # the second: an SDK that no machine has without its owner's doing
    first = demo_copy.make("all", "MODELS=hrnet_tiny", chips)
    assert first.returncode == 0, first.stdout + first.stderr
    table = lines_of(first)
    assert {cell: state for cell, (state, _) in table.items()} == {
        "hrnet_tiny/hailo8l/int8": "skipped",
        "hrnet_tiny/ncnn/fp32": "ok",
        "hrnet_tiny/ncnn/int8": "ok",
    }
    assert "AP 0.854" in table["hrnet_tiny/ncnn/int8"][1] and "proven" in table["hrnet_tiny/ncnn/int8"][1]
    assert "3 cells: 2 ok, 1 skipped, 0 failed" in first.stdout
    assert demo_copy.path("out/all/make.log").read_text().strip() in ("", "make[1]: Nothing to be done for 'built'.")

    script = demo_copy.path("vendors/ncnn/compile.py")
    whole = script.read_text()
    head, _, rest = whole.partition("from __future__ import annotations\n")
    script.write_text(f"{head}from __future__ import annotations\n{BROKEN}{rest}")
    second = demo_copy.make("all", "MODELS=hrnet_tiny", chips)
    assert second.returncode != 0
    table = lines_of(second)
    assert table["hrnet_tiny/ncnn/fp32"][0] == "ok"
    assert table["hrnet_tiny/ncnn/int8"][0] == "failed" and "broken on purpose" in table["hrnet_tiny/ncnn/int8"][1]
    assert "HINT: mend it" in second.stderr  # at once, and not only at the end
    summary = json.loads(demo_copy.path("out/all/summary.json").read_text())
    assert {one["cell"]: one["state"] for one in summary["cells"]}["hrnet_tiny/ncnn/int8"] == "failed"
    assert "broken on purpose" in demo_copy.path("out/report/index.html").read_text()

    script.write_text(whole)
    third = demo_copy.make("all", "MODELS=hrnet_tiny", chips)
    assert third.returncode == 0, third.stdout + third.stderr
    assert lines_of(third)["hrnet_tiny/ncnn/int8"][0] == "ok"


def test_several_networks_at_once(demo, tmp_path):
    project = copy_of_project(tmp_path / "project")
    for folder in ("people_calibration", "people_evaluation"):
        project.path("calib", folder, "manifest.json").parent.rename(tmp_path / folder)
        project.path("calib", folder).symlink_to(demo[0].path("calib", folder))
    own = project.path("models/second/model.yaml")
    own.parent.mkdir()
    own.write_text(project.path("models/hrnet_tiny/model.yaml").read_text().replace("name: hrnet_tiny", "name: second"))
    words = ("all", "-j2", "MODELS=hrnet_tiny second", "CHIPS=ncnn", "PRECISION=fp32", "WEIGHTS=random", "LIMIT=6")
    result = project.make(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {cell: state for cell, (state, _) in lines_of(result).items()} == {
        "hrnet_tiny/ncnn/fp32": "ok",
        "second/ncnn/fp32": "ok",
    }
    made = {path: path.stat().st_mtime_ns for path in project.path("out").rglob("*.ncnn.bin")}
    assert len(made) == 4  # each artifact, and its rung's second name
    assert project.make(*words).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_wrong_name_stops_before_anything_is_made(project):
    result = project.make("all", "MODELS=hrnet_tony", "CALIB=models", "EVAL=models")
    assert result.returncode != 0
    assert "unknown MODEL 'hrnet_tony'" in result.stderr and "HINT: did you mean hrnet_tiny?" in result.stderr
    assert not project.path("out/all/cells.txt").exists()
