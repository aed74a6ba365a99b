"""Shows that the installed RKNN-Toolkit2 starts: `from rknn.api import RKNN`, and an object that takes a configuration.

    python after_install.py        with the environment's own python, after pip

Needs nothing but the standard library.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile

SECONDS = 300  # a first start reads hundreds of megabytes from a slow disk
TRIAL = """
from rknn.api import RKNN
assert RKNN(verbose=False).config(target_platform="rk3588") == 0
"""
PYTHONS = ((3, 10), (3, 12))
INSTALL_AGAIN = "remove the environment (.venv/rk3588) and make it again"


def fail(message: str, hint: str) -> None:
    print(f"ERROR: {message}\nHINT: {hint}", file=sys.stderr)
    raise SystemExit(1)


def check_machine() -> None:
    """The wheel is for Linux on x86-64 and a few versions of CPython; anything else fails here, in words."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        fail(
            f"this is Python {platform.python_version()}; the pins of rk3588 are for CPython 3.10 to 3.12",
            "name one of them: make ... PYTHON=python3.11",
        )
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        fail(
            f"this machine is {sys.platform} on {platform.machine()}; the pins of rk3588 are for Linux on x86-64",
            "compile on such a machine; device.py is what runs on the board",
        )


def main() -> None:
    check_machine()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", TRIAL],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            fail(f"RKNN-Toolkit2 does not start: {error}", INSTALL_AGAIN)
    if done.returncode != 0:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        telling = [line for line in lines if "Error" in line] or lines or ["it printed nothing"]
        fail(f"RKNN-Toolkit2 does not start ({done.returncode}): {telling[-1][:300]}", INSTALL_AGAIN)
    print("rknn-toolkit2 starts")


if __name__ == "__main__":
    main()
