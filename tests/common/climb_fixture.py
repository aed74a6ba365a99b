"""A cell that is ready to climb: a "chip" whose artifact is the noise that it adds to the float network's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import common.declarations.spec
from tests.common.cell_fixture import CHIP, make_cell, make_chip
from tests.conftest import lend_python

# The artifact is the noise that this "chip" adds; every compilation leaves a line in compiled.txt.
COMPILE = """
import hashlib, json, os, pathlib, sys
job = pathlib.Path(sys.argv[1])
description = json.loads((job / "job.json").read_text())
options = (description["rung"] or {"options": {}})["options"]
pathlib.Path("compiled.txt").open("a").write((description["rung"] or {"name": "plain"})["name"] + "\\n")
if options.get("impossible"):
    print("ERROR: this needs a GPU\\nHINT: buy one", file=sys.stderr)
    sys.exit(3)
if options.get("crash"):
    os.kill(os.getpid(), 9)
content = json.dumps(options.get("noise", 0)).encode().ljust(options.get("bytes", 100))
(job / "toy.bin").write_bytes(content)
digest = hashlib.sha256(content).hexdigest()
if options.get("touch"):
    next(job.glob("calib/*.npy")).write_bytes(b"other")
(job / "compile.json").write_text(json.dumps({
    "artifact": ["toy.bin"], "files": {"toy.bin": {"bytes": len(content), "sha256": digest}},
    "artifact_bytes": len(content), "sha256": digest, "seconds": 1, "peak_memory_bytes": 1, "tools": {},
    "quantization": {"calibration": "none", "layers": 9, "float_layers": ["a"] * options.get("float", 0)}}))
"""
INFER = """
import json, pathlib, sys
import numpy as np
job = pathlib.Path(sys.argv[1])
noise = json.loads((job / "toy.bin").read_text())
random = np.random.default_rng(5)
with np.load(job / "../../float/outputs.npz") as outputs:
    np.savez(job / "outputs.npz", **{
        name: (value + random.normal(0, 1, value.shape) * noise).astype(np.float32) for name, value in outputs.items()})
(job / "infer.json").write_text(json.dumps({"samples": 12, "latency_ms": None, "device": "test", "simulated": True}))
"""
BAD, FAIR, GOOD = ({"noise": noise} for noise in (0.5, 0.16, 0.0))
LADDER = [
    {"name": "worst", "title": "much noise", "options": BAD},
    {"name": "fair", "title": "some noise", "options": FAIR},
    {"name": "good", "title": "no noise", "options": GOOD | {"bytes": 400, "float": 3}},
]


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """A cell that is ready to climb LADDER; the vendor's scripts run in the tests' own Python."""
    make_chip(tmp_path / "vendors")
    monkeypatch.setattr(common.declarations.spec, "VENDORS_FOLDER", tmp_path / "vendors")
    monkeypatch.chdir(tmp_path)
    make_cell(Path("."), "int8")
    lend_python(Path(".venv", CHIP))
    for name, text in (("compile.py", COMPILE), ("infer.py", INFER)):
        Path("vendors", CHIP, name).write_text(text)
    ladder(LADDER)
    return Path("out/toy_pose", CHIP, "int8")


def ladder(rungs):
    path = Path("vendors", CHIP, "chip.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"rungs": {"int8": rungs} if rungs else {}}))
