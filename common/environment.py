"""Makes a virtual environment from pinned requirements. Runs on the machine's own Python: standard library only.

    python3 common/environment.py FOLDER REQUIREMENTS... [--constraints FILE] [--no-deps FILE]
        [--python-version FILE] [--after FILE] [--optional]

The folder appears with its file `ready` last; a folder without it is half-made, and is made anew. --python-version:
its Python is of the version in FILE (a .python-version, as pyenv and uv read it), found on this machine. --after: a
script that the new environment's Python runs when all is installed. --optional: no such Python is no failure.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)  # the pins of requirements.txt have wheels for these
PROBE = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:3])"
PROBE_SECONDS = 60  # a shim that asks a question must not hold up the build
TAIL_LINES = 15
TICK, LINE_EVERY = 0.5, 60.0  # seconds: a terminal's line is written anew, another line in a log


def fail(message: str, hint: str) -> None:
    print(f"ERROR: {message}\nHINT: {hint}", file=sys.stderr)
    raise SystemExit(1)


def check_version() -> None:
    """The pins exist for CPython 3.10 to 3.13; anything else fails here, in words, and not deep inside pip."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:3]))
        fail(
            f"Python {found} ({sys.executable}); npumake needs {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}",
            "name another interpreter: make demo PYTHON=python3.11",
        )


# --- Which Python -----------------------------------------------------------------------------------------------------
def read_versions(path: Path) -> list[str]:
    """The versions that a .python-version allows, one a line, as "3.10" or "3.10.13"; fails when it names none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path} cannot be read: {error}", "it should hold a line, as 3.10")
    words = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words or not all(re.fullmatch(r"3\.\d+(\.\d+)?", word) for word in words):
        fail(f"{path} names no Python version", "it should hold a line, as 3.10")
    return words


def version_of(python: str | Path) -> str | None:
    """The version of an interpreter that really runs and is CPython, as "3.10.13"; None for any other file."""
    # PYTHONHOME and the like of somebody else's Python would break this one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=False,
                              timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL, env=environment)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    words = done.stdout.split()
    return ".".join(words[1:]) if done.returncode == 0 and len(words) == 4 and words[0] == "CPython" else None


def fits(found: str | None, wanted: str) -> bool:
    """Whether a version is the wanted one: 3.10.13 is a 3.10, and 3.1.0 is not."""
    return found is not None and f"{found}.".startswith(f"{wanted}.")


def candidates(wanted: str) -> Iterator[str | Path]:
    """Where a Python of this version may be, likely places first: this one, on PATH, pyenv's, uv's."""
    yield sys.executable
    name = f"python{'.'.join(wanted.split('.')[:2])}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        # A pyenv shim on PATH may refuse to run: then a later one is tried.
        if (Path(folder) / name).is_file():
            yield Path(folder) / name
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from sorted(
        (path / "bin" / "python" for path in versions.glob(f"{wanted}*") if fits(path.name, wanted)),
        key=lambda path: [int(part) if part.isdecimal() else 0 for part in path.parts[-3].split(".")],
        reverse=True,
    )
    try:
        environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        done = subprocess.run(["uv", "python", "find", wanted], capture_output=True, text=True, check=False,
                              timeout=PROBE_SECONDS, env=environment)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and done.stdout.strip():
        yield done.stdout.strip()


def find_python(wanted: str) -> str | None:
    """The first CPython of this version that runs on this machine."""
    return next((str(python) for python in candidates(wanted) if fits(version_of(python), wanted)), None)


def choose_python(allowed: list[str]) -> tuple[str | None, str]:
    """(a CPython of one of these versions, that version): the running one if it fits, else in their order; (None, all
    of them in words) where this machine has none."""
    running = ".".join(map(str, sys.version_info[:3]))
    for version in sorted(allowed, key=lambda version: not fits(running, version)):
        if python := find_python(version):
            return python, version
    return None, " or ".join(allowed)


# --- The environment --------------------------------------------------------------------------------------------------
@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold the folder's lock: two makes at once must not make one environment twice. Gives the lock's descriptor.

    Children get it too, so that a pip which outlives a killed parent keeps the next one waiting.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.parent / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting: another make is making {folder}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_ready(folder: Path, sources: list[Path]) -> bool:
    """Whether the environment is complete, runs, and is no older than anything that it was made from."""
    ready = folder / "ready"
    if not ready.exists() or version_of(folder / "bin" / "python") is None:
        return False
    return all(path.stat().st_mtime_ns <= ready.stat().st_mtime_ns for path in sources)


def create(folder: Path, python: str, lock: int) -> None:
    """An empty environment; by virtualenv where Debian's Python lacks ensurepip."""
    for command in ([python, "-m", "venv"], [python, "-m", "virtualenv", "-q"],
                    [sys.executable, "-m", "virtualenv", "-q", "-p", python]):  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run([*command, str(folder)], capture_output=True, check=False, pass_fds=(lock,))
        if done.returncode == 0:
            return
    shutil.rmtree(folder, ignore_errors=True)
    fail(
        f"{python} cannot make a virtual environment",
        "on Debian and Ubuntu: apt install python3-venv; elsewhere: python3 -m pip install virtualenv",
    )


def install(folder: Path, arguments: list[str], lock: int) -> None:
    """Have pip install; what it prints goes to install.log of the folder, and its end to the user when it fails."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check",
               "--progress-bar", "off", *arguments]  # fmt: skip
    if verbose():
        print(shlex.join(command), file=sys.stderr, flush=True)
    log = folder / "install.log"
    with open(log, "ab") as file:  # no pipe: pip may outlive this process
        before = file.tell()
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, pass_fds=(lock,)) as process:
            try:
                said = follow(process, log, before, f"installing into {folder}")
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        if not verbose():
            print(*said.splitlines()[-TAIL_LINES:], sep="\n", file=sys.stderr)
        fail(
            f"pip could not install {' '.join(arguments)} into {folder}",
            "its message stands above; a proxy or a mirror goes into pip's own configuration; then run make again",
        )


def verbose() -> bool:
    """Whether V=1 was given, which shows everything. (common/basics/terminal.py is out of reach of a plain script.)"""
    return os.environ.get("V", "") not in ("", "0")


def follow(process: subprocess.Popen, log: Path, start: int, what: str) -> str:
    """Wait for a process, and show the time and the last line of its log on a terminal; now and then a line elsewhere;
    with V=1 all of it. Returns what it wrote from byte `start` on."""
    began = said = time.monotonic()
    shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not verbose()
    text, ended = "", False
    with open(log, encoding="utf-8", errors="replace", newline="") as file:
        file.seek(start)
        while not ended:
            with suppress(subprocess.TimeoutExpired):
                process.wait(TICK)
                ended = True
            new, now = file.read(), time.monotonic()
            text += new
            if verbose():
                print(new, end="", file=sys.stderr, flush=True)
            elif shown:
                width = shutil.get_terminal_size().columns - 1
                last = (text.splitlines() or [""])[-1].strip()
                line = f"{what}: {int(now - began) // 60:02}:{int(now - began) % 60:02}{'; ' if last else ''}{last}"
                print(f"\r{' ' * width if ended else line[:width].ljust(width)}\r", end="", file=sys.stderr, flush=True)
            elif now - said >= LINE_EVERY:
                said = now
                print(f"{what}: {(now - began) / 60:.0f} min", file=sys.stderr, flush=True)
    return text


def run_after(folder: Path, script: str, lock: int) -> None:
    """Run the script that mends or checks what was installed; its own ERROR and HINT lines where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(folder / "bin" / "python"), script]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False, env=environment, pass_fds=(lock,))  # fmt: skip
    lines = done.stdout.splitlines()
    if done.returncode == 0:
        print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
        return
    own = [line for line in lines if line.startswith(("ERROR: ", "HINT: "))]
    if any(line.startswith("ERROR: ") for line in own):
        print(*own, sep="\n", file=sys.stderr)
        raise SystemExit(1)
    tail = "".join(f"\n | {line}" for line in lines[-TAIL_LINES:])
    how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"exited with {done.returncode}"
    fail(f"{script} {how}{tail}", f"{folder} is not ready; run make again, and report it if it fails again")


def make(arguments: argparse.Namespace, python: str, wanted: str, lock: int) -> None:
    """Make or renew the environment; `ready` last."""
    folder = arguments.folder
    ready = folder / "ready"
    print(f"installing {', '.join(arguments.requirements)} into {folder} (once; some minutes)", file=sys.stderr)
    if not ready.exists() or not fits(version_of(folder / "bin" / "python"), wanted):
        create(folder, python, lock)
    ready.unlink(missing_ok=True)
    install(folder, [word for file in arguments.requirements for word in ("-r", file)]
            + (["-c", arguments.constraints] if arguments.constraints else []), lock)  # fmt: skip
    if arguments.no_deps:
        install(folder, ["--no-deps", "-r", arguments.no_deps], lock)
    if arguments.after:
        run_after(folder, arguments.after, lock)
    ready.touch()


def main() -> None:
    parser = argparse.ArgumentParser(description="make a virtual environment from pinned requirements")
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", nargs="+")
    parser.add_argument("--constraints")
    parser.add_argument("--no-deps", help="requirements whose own dependencies are left out on purpose")
    parser.add_argument("--python-version", type=Path, help="a file that names the version, as 3.10")
    parser.add_argument("--after", help="a script for the new environment's Python, when all is installed")
    parser.add_argument("--optional", action="store_true", help="without such a Python: say so, and succeed")
    arguments = parser.parse_args()
    given = [*arguments.requirements, arguments.constraints, arguments.no_deps, arguments.after]
    given += [arguments.python_version]
    sources = [*(Path(path) for path in given if path), Path(__file__)]
    for path in sources:
        if not path.is_file():
            fail(f"{path} is missing", "restore it: git checkout brings back what the project ships")
    with alone(arguments.folder) as lock:
        if is_ready(arguments.folder, sources):
            return
        if not arguments.python_version:
            check_version()
            make(arguments, sys.executable, ".".join(map(str, sys.version_info[:2])), lock)
            return
        allowed = read_versions(arguments.python_version)
        python, wanted = choose_python(allowed)
        if python is None and arguments.optional:
            print(f"skipped: {arguments.folder} (no CPython {wanted})", file=sys.stderr)
            return
        if python is None:
            fail(
                f"no CPython {wanted} on this machine, and {arguments.folder} needs it",
                f"one of: apt install python{allowed[0]} python{allowed[0]}-venv; pyenv install {allowed[0]}; "
                f"uv python install {allowed[0]}; then run make again",
            )
        make(arguments, python, wanted, lock)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("ERROR: interrupted\nHINT: run the same make again: it makes the environment anew", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(f"ERROR: {error}\nHINT: is the disk full, or a folder not writable?", file=sys.stderr)
        sys.exit(1)
