"""Check the wheels that the user put into sdk/, before they are installed; the Dockerfile runs it, and so may you.

    python check_sdk.py [FOLDER]        FOLDER: sdk/ beside this file

Prints the wheels that are to be installed, one a line: the compiler's, and the runtime's where there is one.
"""

from __future__ import annotations

import re
import sys
from email.parser import HeaderParser
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from failure import VendorError, run

CHIP_FILE = Path(__file__).with_name("chip.yaml")

COMPILER, RUNTIME = "hailo_dataflow_compiler", "hailort"
OFFERED = (
    "Hailo offers it to whoever registers (free): hailo.ai/developer-zone, Software Downloads; choose AI Software "
    "Suite, Hailo-8/8L, x86, Linux and your Python; sdk/README.md has the rest"
)
# name-version-python-abi-platform.whl (PyPA, binary distribution format)
WHEEL = re.compile(r"(?P<name>\w+)-(?P<version>[\w.]+)-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl")


def releases() -> dict[str, str]:
    """{series of the compiler: series of the runtime that goes with it}, of chip.yaml's releases."""
    # Not job_file's chip_list(): where this runs first, nothing is installed yet, not even numpy.
    (line,) = re.findall(r"^releases: *\[([^]]*)\]", CHIP_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(pair.split(":") for pair in line.replace(",", " ").split())


def series(version: str) -> str:
    """ "3.33.1" -> "3.33"."""
    return ".".join(version.split(".")[:2])


def wheel_version(path: Path, name: str) -> str:
    """The version of a wheel. Raises VendorError unless file name and content agree that it is `name`, for this
    Python and for Linux on x86-64."""
    found = WHEEL.fullmatch(path.name)
    if not found or found["name"] != name:
        raise VendorError(f"{path} is not named like a wheel of {name}", "keep the name that it was downloaded under")
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if found["python"] not in (here, "py3") or "x86_64" not in found["platform"]:
        raise VendorError(
            f"{path} is for {found['python']} on {found['platform']}, and this is {here} on linux_x86_64",
            f"download the one for Python {sys.version_info.major}.{sys.version_info.minor} and x86-64",
        )
    try:
        with ZipFile(path) as archive:
            (inside,) = (entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
            fields = HeaderParser().parsestr(archive.read(inside).decode("utf-8"))
    except (BadZipFile, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise VendorError(f"{path} is no readable wheel ({error})", "download it again: it may be half of it") from None
    told = re.sub(r"[-.]", "_", fields.get("Name", ""))
    if told != name or fields.get("Version") != found["version"]:
        raise VendorError(
            f"{path} says inside that it is {told} {fields.get('Version')}", "download it again, and keep its name"
        )
    return found["version"]


def wheels(folder: Path) -> list[Path]:
    """The wheels to install, checked. VendorError when one is missing, doubled, damaged or of a wrong version."""
    known = releases()
    compilers, runtimes = (sorted(folder.glob(f"{name}-*.whl")) for name in (COMPILER, RUNTIME))
    if not compilers:
        there = ", ".join(sorted(path.name for path in folder.glob("*"))) or "nothing"
        raise VendorError(f"{folder} holds no {COMPILER}-<version>-py3-none-linux_x86_64.whl, but {there}", OFFERED)
    for paths in (compilers, runtimes):
        if len(paths) > 1:
            raise VendorError(f"{folder} holds {', '.join(path.name for path in paths)}", "leave one of them there")
    version = wheel_version(compilers[0], COMPILER)
    if series(version) not in known:
        raise VendorError(
            f"{compilers[0].name} is version {version}; known are {', '.join(known)} (5.x is for other chips)",
            OFFERED,
        )
    for path in runtimes:
        found = wheel_version(path, RUNTIME)
        if series(found) != known[series(version)]:
            raise VendorError(
                f"{path.name} is version {found}, and compiler {version} goes with {known[series(version)]}",
                "take the two from one release of Hailo's suite; the runtime's wheel may also be left out",
            )
    return compilers + runtimes


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise VendorError("at most one argument is taken", "check_sdk.py [FOLDER]")
    folder = Path(arguments[0]) if arguments else Path(__file__).with_name("sdk")
    print("\n".join(str(path) for path in wheels(folder)))


if __name__ == "__main__":
    run(main)
