"""Makes the installed TPU-MLIR run on this machine, and shows that it does.

    python after_install.py        with the environment's own python, after pip

The wheel carries Ubuntu 22.04's C library in tpu_mlir/lib/third_party, where its programs look first. A host whose C
library is newer loads it together with its own loader, and every command dies ("GLIBC_2.36 not found"). Then the three
files are moved into a folder beside them. Doing it twice does no harm. Needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

BUNDLED = ("libc.so.6", "libm.so.6", "libpthread.so.0")
MOVED_TO = "not_used_with_a_newer_libc"
TOOLS = ("model_transform", "model_deploy", "model_runner", "run_calibration")
SECONDS = 300  # a first start reads hundreds of megabytes from a slow disk
INSTALL_AGAIN = "remove the environment (.venv/bm1684) and make it again; the wheel is for Linux on x86-64"


def fail(message: str, hint: str) -> None:
    print(f"ERROR: {message}\nHINT: {hint}", file=sys.stderr)
    raise SystemExit(1)


def package() -> Path:
    """The folder of the installed wheel."""
    found = importlib.util.find_spec("tpu_mlir")
    if found is None or not found.submodule_search_locations:
        fail(f"tpu_mlir is not installed for {sys.executable}", "pip install --no-deps -r requirements-no-deps.txt")
    return Path(next(iter(found.submodule_search_locations)))


def bundled_version(library: Path) -> tuple[int, int] | None:
    """The version that a libc.so.6 says it is ("stable release version 2.35"); None when it says none."""
    found = re.search(rb"release version (\d+)\.(\d+)", library.read_bytes())
    return (int(found[1]), int(found[2])) if found else None


def host_version() -> tuple[int, int] | None:
    """The version of the C library that this Python runs on; None when it is not glibc."""
    name, version = platform.libc_ver()
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if name == "glibc" and found else None


def mend_libc(folder: Path, host: tuple[int, int] | None) -> str:
    """Move the bundled C library out of `folder` when the host's is another one; says in words what was done."""
    libc = folder / BUNDLED[0]
    rest = [name for name in BUNDLED if (folder / name).exists()]
    if not rest:
        return "no C library in the way"
    if host is None:
        fail("this machine's C library is not glibc", "TPU-MLIR needs a Linux with glibc (Debian, Ubuntu, not Alpine)")
    bundled = bundled_version(libc) if libc.exists() else None
    if libc.exists() and bundled is None:
        fail(f"{libc} is no C library: the wheel is broken", INSTALL_AGAIN)
    if bundled is not None and bundled >= host:
        # As old as the host's, or the host's own: nothing conflicts. (An older host cannot run the wheel at all, which
        # the start of the tools then says.)
        return f"the wheel's C library {_text(bundled)} fits the host's {_text(host)}"
    aside = folder / MOVED_TO
    aside.mkdir(exist_ok=True)
    # libc.so.6 last: while it is there, an interrupted run is taken up again.
    for name in sorted(rest, reverse=True):
        os.replace(folder / name, aside / name)
    return f"moved the wheel's C library {_text(bundled)} into {aside}: the host has {_text(host)}"


def _text(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version)) if version else "(its rest)"


def check_starts(root: Path) -> None:
    """Every tool prints its help, and the simulators' modules load. Fails with the first line that says why not."""
    python = root / "python"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(root / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(root), str(python)]),
        "TPUC_ROOT": str(root),
    }
    # The quick ones first. model_tool exits with 1 after its help: what it prints counts.
    commands = {"tpuc-opt": [str(root / "bin" / "tpuc-opt"), "--version"]}
    commands["model_tool"] = [str(root / "bin" / "model_tool")]
    commands["the simulators"] = [sys.executable, "-c", "import pymlir, pyruntime_bm"]
    commands["npz_tool"] = [str(python / "tools" / "npz_tool.py"), "compare", "--help"]
    commands |= {name: [sys.executable, str(python / "tools" / f"{name}.py"), "--help"] for name in TOOLS}
    commands["the converter"] = [sys.executable, "-c", "from transform.OnnxConverter import OnnxConverter"]
    for name, command in commands.items():
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            fail(f"{name} of tpu_mlir does not start: {error}", INSTALL_AGAIN)
        printed = f"{done.stdout}\n{done.stderr}"
        if name == "model_tool" and "--info" in printed:
            continue
        if done.returncode != 0:
            lines = [line.strip() for line in printed.splitlines() if line.strip()] or ["it printed nothing"]
            telling = [line for line in lines if "GLIBC" in line or "rror" in line] or lines
            fail(f"{name} of tpu_mlir does not start ({done.returncode}): {telling[-1][:300]}", INSTALL_AGAIN)


def main() -> None:
    if sys.version_info[:2] != (3, 10):
        fail(
            f"this is Python {platform.python_version()}", "the wheel is for CPython 3.10: make the environment with it"
        )
    root = package()
    third_party = root / "lib" / "third_party"
    if not third_party.is_dir():
        fail(f"{third_party} is missing: the wheel is broken", INSTALL_AGAIN)
    print(f"tpu_mlir: {mend_libc(third_party, host_version())}")
    check_starts(root)
    print("tpu_mlir: all tools start")


if __name__ == "__main__":
    main()
