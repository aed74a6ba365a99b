"""Makes a virtual environment from pinned requirements. Runs on the machine's own Python: standard library only.

    python3 common/environment.py FOLDER REQUIREMENTS... [--constraints FILE] [--no-deps FILE]

The folder appears with its file `ready` last, so that an interrupted installation is simply done again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)  # the pins of requirements.txt have wheels for these


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


def create(folder: Path) -> None:
    """An empty environment; by virtualenv where Debian's Python lacks ensurepip."""
    if subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, check=False).returncode == 0:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.run(
        [sys.executable, "-m", "virtualenv", "-q", str(folder)], capture_output=True, check=False
    ).returncode:
        fail(
            f"{sys.executable} cannot make a virtual environment",
            "on Debian and Ubuntu: apt install python3-venv; elsewhere: python3 -m pip install virtualenv",
        )


def install(folder: Path, arguments: list[str]) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*command, *arguments], check=False).returncode:
        fail(
            f"pip could not install {' '.join(arguments)} into {folder}",
            "its message stands above; a proxy or a mirror goes into pip's own configuration; then run make again",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="make a virtual environment from pinned requirements")
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", nargs="+")
    parser.add_argument("--constraints")
    parser.add_argument("--no-deps", help="requirements whose own dependencies are left out on purpose")
    arguments = parser.parse_args()
    check_version()
    folder = arguments.folder
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    print(f"installing {', '.join(arguments.requirements)} into {folder} (once; some minutes)", file=sys.stderr)
    if not (folder / "bin" / "python").exists():
        create(folder)
    wanted = [word for file in arguments.requirements for word in ("-r", file)]
    constraints = ["-c", arguments.constraints] if arguments.constraints else []
    install(folder, [*wanted, *constraints])
    if arguments.no_deps:
        install(folder, ["--no-deps", "-r", arguments.no_deps])
    ready.touch()


if __name__ == "__main__":
    main()
