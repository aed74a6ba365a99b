"""The main job, end to end: make demo, and what happens when it is interrupted or starved."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

CELL = "out/hrnet_tiny/ncnn"
STAGE_LINE = re.compile(r"^(render|samples|export|reference|fix|preflight|calibrate|compile|simulate|compare) ", re.M)


def results(project, variant, name):
    return json.loads(project.path(CELL, variant, name).read_text())


def made_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_demo_ends_with_a_table_and_a_report(demo):
    project, result = demo
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ("hrnet_tiny/ncnn/fp32", "hrnet_tiny/ncnn/int8", "AP float", "OKS", "out/report/index.html"):
        assert word in result.stdout
    assert project.path("out/report/index.html").stat().st_size > 10_000


def test_the_demos_float_network_leaves_room_for_damage_to_show(demo):
    metrics = results(demo[0], "int8", "metrics.json")
    assert metrics["instances"] == 200
    assert 0.80 <= metrics["float"]["AP"] <= 0.97


def test_fp32_on_the_chip_is_float(demo):
    compare = results(demo[0], "fp32", "compare.json")
    assert compare["oks"] > 0.9999
    for output in compare["outputs"].values():
        assert output["cosine"] > 0.999999
    metrics = results(demo[0], "fp32", "metrics.json")
    assert metrics["chip"]["AP"] == pytest.approx(metrics["float"]["AP"], abs=1e-3)


def test_int8_stays_within_its_gate_and_is_small(demo):
    project, _ = demo
    assert results(project, "int8", "compare.json")["oks"] >= 0.975
    small, large = (results(project, variant, "compile.json")["artifact_bytes"] for variant in ("int8", "fp32"))
    assert small < 0.35 * large


def test_the_files_that_scripts_look_for_are_there(demo):
    project, _ = demo
    for variant in ("fp32", "int8"):
        compiled = results(project, variant, "compile.json")
        for key in ("seconds", "artifact_bytes", "sha256", "tools", "peak_memory_bytes"):
            assert compiled[key]
        assert (
            sum(project.path(CELL, variant, name).stat().st_size for name in compiled["artifact"])
            == (compiled["artifact_bytes"])
        )
        sidecar = results(project, variant, "artifact.json")
        assert sidecar["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
        assert results(project, variant, "proof.json")["state"] == "proven"
    assert len(list(project.path(CELL, "int8/calib").glob("*.npy"))) >= 32


def test_a_second_demo_does_nothing(demo):
    project, _ = demo
    before = made_files(project.path("out"))
    result = project.make("demo")
    assert result.returncode == 0
    assert not STAGE_LINE.search(result.stdout)
    assert made_files(project.path("out")) == before


def test_no_partial_files_stay_behind(demo):
    assert not list(demo[0].path("out").rglob(".partial-*"))


def test_another_evaluation_set_measures_again_but_does_not_compile_again(demo_copy):
    shutil.copytree(demo_copy.path("calib/people_calibration"), demo_copy.path("photos"))
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32", "EVAL=photos")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "compile " not in result.stdout
    assert "photos" in results(demo_copy, "fp32", "metrics.json")["protocol"]


def test_a_removed_file_is_made_again_without_compiling_again(demo_copy):
    demo_copy.path(CELL, "fp32/compare.json").unlink()
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32")
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines() if STAGE_LINE.match(line)] == ["simulate", "compare"]


def test_a_damaged_artifact_is_not_trusted(demo_copy):
    artifact = demo_copy.path(CELL, "int8", results(demo_copy, "int8", "compile.json")["artifact"][-1])
    artifact.write_bytes(artifact.read_bytes()[:-100])
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8")
    assert result.returncode != 0
    assert artifact.name in result.stderr
    assert "HINT:" in result.stderr


def start(project, *words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.Popen(
        ["make", *words],
        cwd=project.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # its own process group, so that Ctrl-C reaches all of it, as on a terminal
    )


@pytest.mark.parametrize("stage", ["calibrate", "compile", "simulate"])
def test_ctrl_c_leaves_nothing_half_made_and_the_next_make_goes_on(demo_copy, stage):
    expected = results(demo_copy, "int8", "compile.json")["sha256"]
    first = {"calibrate": "calib/manifest.json", "compile": "compile.json", "simulate": "outputs.npz"}[stage]
    demo_copy.path(CELL, "int8", first).unlink()
    if stage == "compile":  # else it is taken from the rung that was kept
        shutil.rmtree(demo_copy.path(CELL, "int8/rungs"))
    process = start(demo_copy, "ncnn", "MODEL=hrnet_tiny", "PRECISION=int8")
    for line in process.stdout:
        if line.startswith(stage):
            time.sleep(0.7)
            os.killpg(process.pid, signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=60) != 0
    assert "Traceback" not in rest
    assert not demo_copy.path(CELL, "int8", first).exists()
    assert not list(demo_copy.path("out").rglob(".partial-*"))
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8")
    assert result.returncode == 0, result.stdout + result.stderr
    assert results(demo_copy, "int8", "compile.json")["sha256"] == expected


def test_a_full_disk_is_said_and_the_next_make_goes_on(demo_copy):
    """out/ of the cell on a file system of 400 kB: the calibration tensors do not fit."""
    place = demo_copy.path("small")
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        cell = demo_copy.path(CELL, "int8")
        for name in ("request.json", "calibration_set.json"):
            shutil.copy2(cell / name, place / name)
        shutil.rmtree(cell)
        cell.symlink_to(place)
        result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8")
        assert result.returncode != 0
        assert "the disk is full" in result.stderr
        assert "Traceback" not in result.stderr
        assert not (place / "calib" / "manifest.json").exists()
        cell.unlink()
        result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8")
        assert result.returncode == 0, result.stdout + result.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)
