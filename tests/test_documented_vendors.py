"""What each vendor folder's README.md shows below "In another project", typed in an empty folder; docker is played."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.conftest import ROOT
from tests.documented_commands import Command, blocks_of, shell_script
from tests.documented_programs import install
from tests.documented_supplies import job_files

FOLDERS = sorted(path.parent.name for path in (ROOT / "vendors").glob("*/chip.yaml"))
SECTION = "\n## In another project\n"
SLOW_SIMULATORS = {"bm1684"}  # of the example's size of picture; SLOW=1 has the time


def shell(commands, folder, programs):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "DOCKER_", "PYTHON"))}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", "-c", shell_script(commands)], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folder_in_another_project_as_its_readme_has_it(folder, tmp_path):
    declared = (ROOT / "vendors" / folder / "chip.yaml").read_text()
    own = ROOT / ".venv" / folder / "ready"
    if re.search(r"^engines: .*\blocal\b", declared, re.MULTILINE) and not own.exists():
        pytest.skip(f"no {own.parent.relative_to(ROOT)}: `make .venv/{folder}/ready` says why")
    if folder in SLOW_SIMULATORS and os.environ.get("SLOW") != "1":
        pytest.skip("its simulator takes minutes: SLOW=1 make test runs it")
    text = (ROOT / "vendors" / folder / "README.md").read_text()
    before, _, rest = text.partition(SECTION)
    section = rest.partition("\n## ")[0]
    (tmp_path / "npumake").symlink_to(ROOT)
    (tmp_path / "other").mkdir()
    programs = install(tmp_path / "bin")
    blocks = [block for block in blocks_of(section) if block.is_of_commands]
    assert len(blocks) == 2
    precision = json.loads((ROOT / "vendors" / folder / "job.example.json").read_text())["precision"]
    for block, place in zip(blocks, (tmp_path, tmp_path / "other"), strict=True):
        shown = [(line, command) for line, command in block.commands()
                 if precision == "int8" or "int8 only" not in block.lines[line - block.line]]  # fmt: skip
        above = before.count("\n") + 2
        shell([Command(f"{folder}/README.md:{above + line}", command, command) for line, command in shown],
              place, programs)  # fmt: skip
        if place == tmp_path:
            job_files(tmp_path / "other" / "job")
    job = tmp_path / "other" / "job"
    compiled = json.loads((job / "compile.json").read_text())
    assert compiled["precision"] == precision and all((job / name).is_file() for name in compiled["artifact"])
    assert (job / "outputs.npz").exists() or "int8 only" in section
