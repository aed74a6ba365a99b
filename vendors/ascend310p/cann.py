"""Where CANN is, which version, and the environment that `atc` and `aoe` need on a machine without an NPU.

Two things are missing on such a machine, and are supplied here: the driver's libascend_hal.so, for which the toolkit
brings an empty stand-in of its own (a "stub", in a folder whose place differs from version to version), and what
set_env.sh sets, where nobody has sourced it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from failure import VendorError

DRIVER_LIBRARY = "libascend_hal.so"
NPU_MANAGER = Path("/dev/davinci_manager")  # there when the NPU's driver is
SET_ENV_PLACES = (
    "/usr/local/Ascend/ascend-toolkit/set_env.sh",
    "/usr/local/Ascend/cann/set_env.sh",
    "~/Ascend/ascend-toolkit/set_env.sh",
    "~/Ascend/cann/set_env.sh",
)
# Seen in CANN 7.0 (the second) and in 8.0 to 9.0 (the first); the search below finds any other place.
STUB_PLACES = ("{machine}-linux/devlib/linux/{machine}", "{machine}-linux/devlib/{machine}", "{machine}-linux/devlib")
STUB_FOLDERS = ("devlib", "stub", "stubs")
VERSION_FILES = ("version.cfg", "version.info", "compiler/version.info", "opp/version.info", "{machine}-linux/*.info")
INSTALL = "run this inside the container that README.md builds; or install CANN and source its set_env.sh"


@dataclass(frozen=True)
class Cann:
    """A found CANN. environment: all variables for its tools. stub: the folder of the driver's stand-in, if used."""

    atc: Path
    version: str
    environment: dict[str, str]
    stub: Path | None


def find_cann() -> Cann:
    """The CANN of this machine. Raises VendorError when there is none, or none that could start without an NPU."""
    environment = dict(os.environ)
    found = shutil.which("atc")
    if found is None:
        environment = _sourced(environment)
        found = shutil.which("atc", path=environment.get("PATH"))
    if found is None:
        raise VendorError("atc, the compiler of CANN, is not on PATH", INSTALL)
    atc = Path(found)
    roots = list(_roots(atc, environment))
    stub = None
    if not NPU_MANAGER.exists():
        stub = find_stub(roots)
        if stub is None:
            looked = ", ".join(str(root) for root in roots)
            raise VendorError(
                f"no stand-in of {DRIVER_LIBRARY} under {looked}, and this machine has no NPU driver: atc cannot start",
                f"find / -name {DRIVER_LIBRARY}, and put its folder on LD_LIBRARY_PATH",
            )
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(
            [str(stub), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
        )
    # Eight compiling processes are the default; they have been reported to need more than 10 GB together.
    environment.setdefault("MAX_COMPILE_CORE_NUMBER", str(max(1, min(os.cpu_count() or 1, 2))))
    return Cann(atc, find_version(roots), environment, stub)


def _sourced(environment: dict[str, str]) -> dict[str, str]:
    """The variables after set_env.sh, where one is installed. It reads unset variables: no `set -u` here."""
    for place in SET_ENV_PLACES:
        path = Path(place).expanduser()
        if path.is_file():
            command = ["bash", "-c", 'source "$0" >/dev/null 2>&1; env -0', str(path)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
            pairs = (entry.partition("=") for entry in done.stdout.decode(errors="surrogateescape").split("\0"))
            return {name: value for name, separator, value in pairs if separator} or environment
    return environment


def _roots(atc: Path, environment: dict[str, str]) -> Iterator[Path]:
    """The folders to look in, the most likely first, each once: where atc lies, what set_env.sh names, the default."""
    real = atc.resolve()
    named = [environment.get(name, "") for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    places = [*real.parents[1:3], *(Path(name) for name in named if name), Path("/usr/local/Ascend")]
    seen: set[Path] = set()
    for place in places:
        if place.is_dir() and place.resolve() not in seen and len(place.resolve().parts) > 2:
            seen.add(place.resolve())
            yield place.resolve()


def find_stub(roots: list[Path]) -> Path | None:
    """The folder of the toolkit's stand-in for the driver's library; None where none of the roots has one."""
    machine = platform.machine()
    for root in roots:
        for pattern in STUB_PLACES:
            folder = root / pattern.format(machine=machine)
            if (folder / DRIVER_LIBRARY).is_file():
                return folder
    for root in roots:
        hits = sorted(path.parent for path in root.rglob(DRIVER_LIBRARY) if set(STUB_FOLDERS) & set(path.parts))
        # Cross-compilation brings the stand-ins of other machines as well.
        own = [folder for folder in hits if folder.name == machine or f"{machine}-linux" in folder.parts]
        if own or hits:
            return (own or hits)[0]
    return None


def find_version(roots: list[Path]) -> str:
    """What the toolkit's own files say ("8.5.0"); "unknown" where no such file is found."""
    for root in roots:
        for pattern in VERSION_FILES:
            for path in sorted(root.glob(pattern.format(machine=platform.machine()))):
                text = path.read_text(encoding="utf-8", errors="replace")
                if found := re.search(
                    r"^\s*(?:runtime_running_version|version)\s*=\s*\[?([^\]\n]+)", text, re.I | re.M
                ):
                    return found[1].strip().rpartition(":")[2].strip(' "')
    return "unknown"
