"""Chips whose compiler and simulator are real: the whole chain from make, on the network that comes with npumake."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import ROOT, copy_of_project

NETWORK = ("MODEL=hrnet_tiny", "LIMIT=20")


def environment(folder):
    """A mark that skips where the vendor's environment cannot be made: its SDK wants another CPython."""
    ready = ROOT / ".venv" / folder / "ready"
    return pytest.mark.skipif(not ready.exists(), reason=f"no .venv/{folder}: `make .venv/{folder}/ready` says why")


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory):
    return copy_of_project(tmp_path_factory.mktemp("families") / "project")


def with_one_rung(declared, rung):
    """chip.yaml's text with this rung of int8 and no other."""
    text, count = re.subn(r"^  int8:\n(    .*\n)+", f"  int8:\n    - {rung}\n", declared, flags=re.MULTILINE)
    assert count == 1
    return text


def read(project, cell, file):
    return json.loads(project.path("out/hrnet_tiny", cell, file).read_text())


@pytest.mark.parametrize(
    "chip", [pytest.param(name, marks=environment(name)) for name in ("bm1684", "rk3588")]
)  # fmt: skip
def test_the_default_command_ends_on_a_rung_that_is_right(shared_project, chip):
    result = shared_project.make(chip, *NETWORK, "PRECISION=int8")
    assert result.returncode == 0, result.stdout + result.stderr
    cell = f"{chip}/int8"
    assert read(shared_project, cell, "proof.json")["state"] == "proven"
    assert read(shared_project, cell, "compare.json")["oks"] >= 0.98
    rungs = read(shared_project, cell, "rungs.json")
    assert rungs["tried"][-1]["number"] == rungs["chosen"]
    assert all(not entry["passed"] for entry in rungs["tried"][:-1])
    compiled = read(shared_project, cell, "compile.json")
    assert compiled["peak_memory_bytes"] > 100e6
    assert len(compiled["quantization"]["float_layers"]) < compiled["quantization"]["layers"]

    result = shared_project.make("layers", "MODEL=hrnet_tiny", f"CHIP={chip}")
    assert result.returncode == 0, result.stdout + result.stderr
    layers = read(shared_project, cell, "layers.json")["layers"]
    assert len(layers) > 50
    worst = min((layer for layer in layers if layer["sqnr_db"] is not None), key=lambda layer: layer["sqnr_db"])
    assert worst["name"] in result.stdout
    for name in ("layers.png", "layers.csv"):
        assert shared_project.path("out/hrnet_tiny", cell, name).stat().st_size > 0


@environment("bm1684")
def test_the_vendors_own_default_calibration_turns_the_gate_red(shared_project):
    """run_calibration builds without a warning by its default, kl: here it costs 0.09 AP, on other networks all."""
    path = shared_project.path("vendors/bm1684/chip.yaml")
    declared = path.read_text()
    path.write_text(with_one_rung(declared, '{name: kl, title: "the default", options: {calibration: kl}}'))
    try:
        result = shared_project.make("bm1684", *NETWORK, "PRECISION=int8")
    finally:
        path.write_text(declared)
    assert result.returncode != 0
    assert "hrnet_tiny/bm1684/int8 failed its proof" in result.stderr
    assert "rung 1 of 1 (the default): OKS 0.9" in result.stderr
    metrics = read(shared_project, "bm1684/int8", "metrics.json")
    assert metrics["drop"]["AP"] > 0.05
    assert read(shared_project, "bm1684/int8", "proof.json")["state"] == "failed"


@environment("bm1684")
def test_a_sibling_chip_in_a_type_of_its_own_and_four_images_at_once(shared_project):
    # Few images: the simulator of float16 takes seconds for each.
    result = shared_project.make("bm1684x", "MODEL=hrnet_tiny", "LIMIT=4", "PRECISION=fp16", "BATCH=4")
    assert result.returncode == 0, result.stdout + result.stderr
    cell = "bm1684x/fp16-b4"
    assert read(shared_project, cell, "proof.json")["state"] == "proven"
    assert read(shared_project, cell, "job.json")["inputs"][0]["shape"][0] == 4
    assert read(shared_project, cell, "fix.json")["batch"]["size"] == 4


def test_what_a_sibling_does_not_have_is_refused_before_anything_is_built(shared_project):
    result = shared_project.make("bm1684", *NETWORK, "PRECISION=fp16")
    assert result.returncode != 0
    assert "chip 'bm1684' does not build precision 'fp16'" in result.stderr
    assert "HINT: PRECISION=fp32 or PRECISION=int8" in result.stderr
    assert not shared_project.path("out/hrnet_tiny/bm1684/fp16").exists()
