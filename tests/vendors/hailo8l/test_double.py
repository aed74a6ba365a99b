"""The double refuses each rule that is broken, and takes what is right."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_double", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
RULES = Path(__file__).with_name("double_rules.py")
NAMES = [line.split('"')[1] for line in RULES.read_text().splitlines() if line.startswith('    "') and "lambda" in line]


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict:
    folder = _conftest.write_job(tmp_path_factory.mktemp("rules") / "job")
    environment = {**os.environ, "PYTHONPATH": _conftest.PATHS, "USER": "x"}
    done = subprocess.run(
        [sys.executable, str(RULES), str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("rule", [*NAMES, "parsed twice", "emulated outside a context"])
def test_a_broken_rule_is_refused(said, rule):
    kind = said[rule].partition(":")[0]
    assert kind.endswith(("Error", "Shape")), said[rule]


def test_what_is_right_is_taken(said):
    assert said["good"] == [[8, 32, 24, 5], [8, 16, 12, 4]] and said["compiled"] == "NPUMAKE DOUBLE"
    assert len(NAMES) > 40
    assert "doesn't match" in said["calibration: NCHW"] and "CalibrationDataType" in said["calibration: list"]
    assert "Reducing optimization level" in said["level: no GPU"]


def test_it_wants_the_environment_that_the_sdk_wants(tmp_path):
    """USER, HOME and a writable working folder: sdk_process.py sees to them; without them the import is refused."""
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": _conftest.PATHS}
    for missing in ("USER", "HOME"):
        environment = {**plain, "USER": "x", "HOME": str(tmp_path)}
        del environment[missing]
        command = [sys.executable, "-c", "import hailo_sdk_client"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "have to be set" in done.stderr, missing
