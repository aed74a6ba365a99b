"""How long each stage takes until its main() begins: the interpreter, and all that is imported by then.

    python -m common common.bench.start_up [--repeats 3]

Processor time and not wall time, because a busy machine makes everything wait; the least of the repeats, because what
shares the processor's caches makes the same work slower.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run

LIMIT = 0.5  # seconds, for a stage that needs no torch
REPEATS = 3
HEAVY = ("torch", "onnxsim", "onnxruntime", "matplotlib", "scipy", "pycocotools")  # none is needed before main() begins
STAGE = re.compile(r"(?:\$\(RUN\)|-m common) +([a-z_.]+)")
# As python -m common STAGE does it, up to the call of main(). What the process needs to end is no part of it.
IMPORT = """
import json, sys, time
from common.__main__ import load_stage
load_stage(sys.argv[1])
print(json.dumps([time.process_time(), [name for name in sys.argv[2:] if name in sys.modules]]))
"""


def stages(makefile: Path = Path("Makefile")) -> dict[str, str]:
    """{stage: module} of everything that the Makefile runs by `python -m common`, by name; but for the bench itself."""
    found = set(STAGE.findall(makefile.read_text(encoding="utf-8")))
    names = sorted(name for name in found if not name.startswith("common.bench"))
    return {name: name if "." in name else f"common.{name}" for name in names}


def start(module: str) -> tuple[float, list[str]]:
    """(user + system seconds of a process until it has imported the module, which of HEAVY it imported).

    Raises UserError when it cannot be imported.
    """
    command = [sys.executable, "-c", IMPORT, module, *HEAVY]
    # Python keeps what it has compiled, unless this variable, of some machines that run tests, forbids it.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise UserError(f"{module} cannot be imported: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    seconds, heavy = json.loads(done.stdout)
    return seconds, heavy


def measure_start_up(repeats: int = REPEATS) -> dict[str, Any]:
    """{"limit": seconds, "repeats", "stages": [{"stage", "seconds": user + system, the least of the repeats, "heavy":
    which of the large packages were imported, "torch": whether that was one}]}, by name.

    Raises UserError when a stage cannot be imported.
    """
    found = []
    for stage, module in stages().items():
        runs = [start(module) for _ in range(repeats)]
        heavy = runs[0][1]
        seconds = round(min(seconds for seconds, _ in runs), 3)
        found.append({"stage": stage, "seconds": seconds, "heavy": heavy, "torch": "torch" in heavy})
    return {"limit": LIMIT, "repeats": repeats, "stages": found}


def start_up_lines(measured: dict[str, Any] | None) -> list[str]:
    """What was measured, as lines of the table: the slowest first, and those above the limit marked."""
    if measured is None:
        return []
    lines = [
        "",
        f"start-up of the {len(measured['stages'])} stages, imports included: processor seconds, least of "
        f"{measured['repeats']}; limit {measured['limit']:g} without torch",
    ]
    for row in sorted(measured["stages"], key=lambda row: -row["seconds"]):
        over = row["seconds"] > measured["limit"] and not row["torch"]
        words = [f"{row['stage']:<28}{row['seconds']:>10.2f}", *row["heavy"], *(["above the limit"] if over else [])]
        lines.append("  ".join(words))
    return lines


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="how long each stage takes until it begins")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    print("\n".join(start_up_lines(measure_start_up(parser.parse_args().repeats))[1:]))


if __name__ == "__main__":
    run(main)
