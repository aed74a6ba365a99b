"""Runs TPU-MLIR's commands: each in a folder of its own, believed only when its files are there.

The wheel's own start scripts are passed over: they start a second Python, and on a shell that has not activated the
environment the tools find another python3. The variables below are what those scripts set (tpu_mlir/__init__.py).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from failure import VendorError

THREADS = "4"  # tpu_mlir/__init__.py sets the same; fixed, so that sums are added up alike on every machine
INSTALL_AGAIN = "make the environment again: remove .venv/bm1684, then make .venv/bm1684/ready"
TAIL_LINES = 12


@dataclass(frozen=True)
class Finished:
    """A command that ended well: wall seconds, and all that it printed (progress bars left out)."""

    seconds: float
    output: str


@cache
def package() -> Path:
    """The folder of the installed wheel. Raises VendorError when it is not installed."""
    found = importlib.util.find_spec("tpu_mlir")
    if found is None or not found.submodule_search_locations:
        raise VendorError(f"tpu_mlir is not installed for {sys.executable}", INSTALL_AGAIN)
    return Path(next(iter(found.submodule_search_locations)))


def versions() -> dict[str, str]:
    """Versions of the packages that take part in a compilation."""
    return {name: importlib.metadata.version(name) for name in ("tpu_mlir", "onnx", "onnxruntime", "onnxsim")}


def environment(temporary: str) -> dict[str, str]:
    """The variables that the tools need. temporary: a folder for their temporary files, with a short path: a socket in
    it may have 108 characters."""
    root = package()
    ours = {
        "PATH": [root / "bin", root / "python" / "tools", Path(sys.executable).parent],
        "PYTHONPATH": [root, root / "python", root / "customlayer" / "python"],
        "LD_LIBRARY_PATH": [root / "lib", root / "lib" / "capi", root / "lib" / "third_party"],
    }
    values = dict(os.environ)
    for name, folders in ours.items():
        values[name] = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get(name)])])
    values |= {
        "TPUC_ROOT": str(root),
        "PPL_PROJECT_ROOT": str(root / "cross_toolchains" / "ppl_compile"),
        "PPL_RUNTIME_PATH": str(root / "cross_toolchains" / "ppl_compile" / "deps"),
        "OMP_NUM_THREADS": THREADS,
        "TMPDIR": temporary,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return values


def command_line(tool: str, arguments: Sequence[object]) -> list[str]:
    """The command of a tool of the wheel: a program of its bin folder, else a script of python/tools.

    Raises VendorError when the wheel has neither.
    """
    root = package()
    words = [str(argument) for argument in arguments]
    program, script = root / "bin" / tool, root / "python" / "tools" / f"{tool}.py"
    if program.is_file():
        return [str(program), *words]
    if script.is_file():
        return [sys.executable, str(script), *words]
    raise VendorError(f"{tool} is missing in {root}: the wheel is broken", INSTALL_AGAIN)


def run_tool(
    tool: str,
    arguments: Sequence[object],
    folder: Path,
    writes: Sequence[str] = (),
    hint: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    watch: Callable[[str], None] | None = None,
) -> Finished:
    """Run one command in `folder`; its output goes to stdout as well, line by line, for whoever keeps the log.

    writes: files of `folder` that must be there, and not be empty, afterwards; older ones are removed first.
    variables: of the environment, beside those that every tool needs. watch: called with each line of its output; the
    command goes on meanwhile.
    Raises VendorError when the command cannot start, is killed, exits non-zero, or leaves one of the files unwritten.
    """
    for name in writes:
        (folder / name).unlink(missing_ok=True)
    command = command_line(tool, arguments)
    started = time.monotonic()
    print(f"== {tool} {' '.join(map(str, arguments))}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tpu-") as temporary:
        code, lines = _run(tool, command, folder, environment(temporary) | dict(variables), watch)
    if code != 0:
        raise VendorError(f"{tool} {_ending(code)}: {_reason(lines)}", hint or _hint(code, lines))
    for name in writes:
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            raise VendorError(
                f"{tool} ended well but wrote no {name}: {_reason(lines)}",
                "look at its output in the log; a full disk and a broken wheel look like this",
            )
    return Finished(round(time.monotonic() - started, 2), "\n".join(lines))


def _run(
    tool: str, command: list[str], folder: Path, variables: dict[str, str], watch: Callable[[str], None] | None
) -> tuple[int, list[str]]:
    """(exit code, lines of output). Whatever ends this process ends the command, too, with all that it started."""
    try:
        # A session of its own: Ctrl-C reaches this process alone.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise VendorError(f"{tool} cannot be started: {error}", INSTALL_AGAIN) from None
    lines = []
    try:
        for block in process.stdout:
            line = _last_state(block)
            if line:
                lines.append(line)
                print(line, flush=True)
                if watch:
                    watch(line)
        return process.wait(), lines
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _last_state(block: bytes) -> str:
    """A line as a terminal shows it at last: of a progress bar only its final state, and of an empty one nothing."""
    text = block.decode("utf-8", errors="replace").rstrip("\r\n")
    return text.rsplit("\r", 1)[-1].rstrip()


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"failed with exit code {code}"


def _reason(lines: Sequence[str]) -> str:
    """The line of the output that says most: the program that failed inside, else the exception, else the last."""
    for mark in ("[!Error]: ", "Error: ", "error: ", "UNREACHABLE", "Assertion", "not support"):
        found = [line for line in lines if mark in line]
        if found:
            return found[-1].strip()[:400]
    return lines[-1].strip()[:400] if lines else "it printed nothing"


def _hint(code: int, lines: Sequence[str]) -> str:
    text = "\n".join(lines[-TAIL_LINES:])
    if code == -signal.SIGKILL or "Killed" in text or "MemoryError" in text or "bad_alloc" in text:
        return "signal 9 is often a lack of memory: close other programs, or compile on a larger machine"
    if "GLIBC_" in text:
        return "run after_install.py with this environment's python: it moves the wheel's own C library away"
    if "No space left" in text:
        return "the disk is full: free some space, then run the same command again"
    return "its whole output stands in the log; run the same command again, and if it fails again, change the network"
