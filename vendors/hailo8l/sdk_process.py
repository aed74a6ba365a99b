"""Hailo's SDK in a process of its own: it may crash, print and litter there, and what it starts ends with it.

It writes logs into the working folder when it is imported, and reads USER and HOME; all three are set before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atomic_files import read_json, scratch_folder
from failure import RungUnavailableError, VendorError
from job_file import Job

CHILD = Path(__file__).with_name("sdk_child.py")
ANSWER, STEP = "answer.json", "step.txt"
AGAIN = "its own messages stand above (compile.log, infer.log); README.md, Common errors"


def environment(folder: Path) -> dict[str, str]:
    """The process's variables, with those that the SDK does not do without."""
    variables = dict(os.environ)
    home = variables.get("HOME", "")
    if not home or not os.access(home, os.W_OK):
        variables["HOME"] = str(folder)
    # Its allocator reads USER unguarded, minutes after the start; a container started with -u has none.
    name = variables.get("USER") or variables.get("LOGNAME") or "hailo"
    variables |= {"USER": name, "LOGNAME": variables.get("LOGNAME") or name}
    if paths := variables.get("PYTHONPATH"):  # relative ones would be lost with the working folder
        variables["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    variables.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own chatter, not its errors
    return variables


@contextmanager
def sdk_step(step: str, job: Job, *words: str, files: dict[str, Path] | None = None) -> Iterator[tuple[Path, Any]]:
    """Run a step of sdk_child.py in a scratch folder of the job: gives (the folder, with what it wrote; its answer).

    files: {name: file} that the step finds in the folder. Raises VendorError, or RungUnavailableError, with the
    step's own message; or with the call that the process ended in.
    """
    with scratch_folder(job.folder.resolve()) as folder:
        for name, source in (files or {}).items():
            (folder / name).symlink_to(source.resolve())
        command = [sys.executable, str(CHILD), step, str(job.folder.resolve()), *words]
        # Its own session, so that the compiler's helpers end with it. Its output is ours: the answer is a file.
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        ) as process:
            try:
                code = process.wait()
            except BaseException:
                _end(process)
                raise
        yield folder, _answer(folder, code)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


def _answer(folder: Path, code: int) -> Any:
    path = folder / ANSWER
    if code == 0 and path.is_file():
        answer = read_json(path, AGAIN)
        failed = answer.get("error")
        if failed is None:
            return answer
        kind = RungUnavailableError if answer.get("unavailable") else VendorError
        raise kind(failed, answer.get("hint", ""))
    step = folder / STEP
    where = step.read_text(encoding="utf-8") if step.is_file() else "its start"
    if code == -signal.SIGKILL:
        raise VendorError(
            f"Hailo's SDK was killed by SIGKILL during {where}",
            "often a lack of memory: close other programs, or take fewer calibration images (CALIB_COUNT=)",
        )
    if code == -signal.SIGILL:
        raise VendorError(f"Hailo's SDK ended with an illegal instruction during {where}", "it needs a CPU with AVX")
    if code < 0:
        raise VendorError(f"Hailo's SDK was killed by {signal.Signals(-code).name} during {where}", AGAIN)
    raise VendorError(f"Hailo's SDK left with exit code {code} during {where}, and without an answer", AGAIN)
