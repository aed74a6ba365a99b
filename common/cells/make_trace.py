"""What make would do for cells, asked of make itself: a dry run with its reasons, read back.

    Makefile:223: update target 'out/m/c/int8/preflight.json' due to: vendors/c/chip.yaml
    Makefile:235: target 'out/m/c/int8/job.json' does not exist            (where it needs nothing)

Nothing runs and nothing is written; a hundred cells take a fraction of a second.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.basics.errors import UserError

UPDATED = re.compile(r"^\S+:\d+: update target '(.+)' due to: (.+)$")
ABSENT = re.compile(r"^\S+:\d+: target '(.+)' does not exist$")
NO_RULE = re.compile(r"No rule to make target '(.+)', needed by '(.+)'")
SECONDS = 60


@dataclass
class Pending:
    """What is to be made again. causes: {target: the prerequisites that are newer; empty where it does not exist}, in
    the order of the build; nowhere: {target: what it needs and nothing makes}."""

    causes: dict[str, list[str]] = field(default_factory=dict)
    nowhere: dict[str, str] = field(default_factory=dict)

    def of(self, folders: Sequence[Path]) -> list[str]:
        """The targets in these folders, in the order of the build."""
        starts = tuple(f"{folder}/" for folder in folders)
        return [target for target in self.causes if target.startswith(starts)]

    def reason(self, targets: Sequence[str]) -> str:
        """Why, in words: the first thing that is no consequence of another one of the same build."""
        for target in targets:
            if not Path(target).exists():  # make lists all that such a target needs as newer
                return f"{target} is missing"
            for cause in self.causes[target]:
                if cause not in self.causes:
                    return f"{cause} is newer"
        return "something before it is made again"


def dry_run(cells: Sequence[str], *words: str) -> Pending:
    """What `make` would do to have these cells, model/chip/variant, proven. words: further variables, DOUBLE=1.

    Their request files have to exist. Raises UserError when make itself fails.
    """
    if not cells:
        return Pending()
    # An outer make's flags would reach the inner one; MODEL and the like of its command line, too.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    environment["LC_ALL"] = "C"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as listed:
        listed.write("\n".join(cells) + "\n")
        listed.flush()
        command = [
            shutil.which("gmake") or "make",
            "-n",
            "-k",
            "--trace",
            "built",
            f"CELL_LIST={listed.name}",
            "MODEL=",
        ]
        try:
            done = subprocess.run([*command, *words], capture_output=True, text=True, errors="replace", check=False,
                                  env=environment, timeout=SECONDS)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"make gives no answer: {error}", "make doctor") from None
    pending = read_trace(done.stdout + done.stderr)
    if done.returncode and not pending.nowhere:
        told = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"make -n fails: {told}", "make help works? then report this")
    return pending


def read_trace(text: str) -> Pending:
    """What `make -n --trace` says."""
    pending = Pending()
    for line in text.splitlines():
        if match := UPDATED.match(line):
            pending.causes.setdefault(match[1], match[2].split())
        elif match := ABSENT.match(line):
            pending.causes.setdefault(match[1], [])
        elif match := NO_RULE.search(line):
            pending.nowhere[match[2]] = match[1]
    return pending
