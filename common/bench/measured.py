"""Run a command and measure what it took: wall time, and the memory of its largest process.

A process starts with its parent's peak on Linux (getrusage(2), ru_maxrss: handed on at exec), and a bench has held a
great deal by then. So a small Python stands between: what it hands on is less than any process of Python takes itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.basics.errors import UserError

LOG_TAIL_LINES = 15
# Its last argument is where the answer goes; the command's own output goes where its stdout and stderr go.
BETWEEN = """
import json, os, sys, time
*command, answer = sys.argv[1:]
begun = time.perf_counter()
process = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - begun
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
with open(answer, "w") as file:
    json.dump({"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "peak_memory_bytes": peak,
               "cpu_seconds": usage.ru_utime + usage.ru_stime}, file)
"""


@dataclass(frozen=True)
class Measured:
    """seconds: wall time with the start of the process. cpu_seconds: of it and of all that it waited for, added up.
    peak_memory_bytes: resident, of the largest of them."""

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


def run_measured(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end; its output goes to the file `log`. Raises UserError when it fails, with
    its own message, else with the end of the log.

    The log's folder has to exist; a file beside it is written and removed.
    """
    answer = log.with_suffix(".measured.json")
    answer.unlink(missing_ok=True)
    between = [sys.executable, "-I", "-S", "-c", BETWEEN, *command, str(answer)]
    try:
        with log.open("wb") as output:
            subprocess.run(between, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
        result = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {"code": "nothing"}
    finally:
        answer.unlink(missing_ok=True)
    code = result.pop("code")
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if told := [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]:
            raise UserError(told[-1], f"the whole log is {log}")
        tail = "\n".join(f" | {line}" for line in lines[-LOG_TAIL_LINES:])
        raise UserError(f"{' '.join(command)} ended with {code}\n{tail}", f"the whole log is {log}")
    return Measured(**result)


def run_stage(log: Path, stage: str, *arguments: str) -> Measured:
    """run_measured() of `python -m common STAGE ARGUMENTS...`, as make runs it."""
    return run_measured([sys.executable, "-m", "common", stage, *arguments], log)
