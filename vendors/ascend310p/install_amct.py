"""Install AMCT, which PRECISION=int8 needs, from the archive that the user has laid into sdk/.

    python install_amct.py SDK_FOLDER        while the image is built

Checks the archive's name, version and machine before anything is unpacked; installs its wheel; compiles its operators
with the headers of the onnxruntime that is installed; and shows that the result can be imported. Without an archive it
says where it is offered, and ends well: fp16 needs no AMCT.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from amct_session import version_of
from failure import VendorError, run
from job_file import chip_list

ARCHIVE = re.compile(r"Ascend-cann-amct_(?P<version>[0-9A-Za-z.]+)_linux-(?P<machine>x86_64|aarch64)\.tar\.gz")
WHERE = (
    "Huawei offers it at hiascend.com: CANN, community edition, version {version}, package "
    "Ascend-cann-amct_{version}_linux-{machine}.tar.gz; lay it into vendors/ascend310p/sdk/ as it is"
)
BUILT = "Install amct_onnx_op success"  # what its setup.py prints (AMCT (ONNX), installation)
# What its operators include (AMCT (ONNX), installation): from the include folder of onnxruntime's release archive.
HEADERS = (
    "onnxruntime_cxx_api.h",
    "onnxruntime_cxx_inline.h",
    "onnxruntime_c_api.h",
    "onnxruntime_session_options_config_keys.h",
    "onnxruntime_float16.h",
)


def find_archive(folder: Path) -> Path | None:
    """The archive in sdk/, its name checked; None where there is none. Raises VendorError for a wrong one."""
    versions, machine = chip_list("amct"), platform.machine()
    where = WHERE.format(version=versions[0], machine=machine)
    found = sorted(folder.glob("*amct*")) if folder.is_dir() else []
    if not found:
        return None
    if len(found) > 1:
        raise VendorError(f"{folder} holds {', '.join(path.name for path in found)}", "leave one archive of AMCT there")
    name = ARCHIVE.fullmatch(found[0].name)
    if name is None:
        raise VendorError(f"{found[0].name} is not named as an archive of AMCT is", where)
    if name["version"] not in versions:
        raise VendorError(f"{found[0].name} is of version {name['version']}, not {' or '.join(versions)}", where)
    if name["machine"] != machine:
        raise VendorError(f"{found[0].name} is for {name['machine']}, and this is {machine}", where)
    return found[0]


def unpack(archive: Path, target: Path) -> None:
    """Unpack a .tar.gz. Raises VendorError when it is damaged or has a file that would lie outside `target`."""
    hint = "download it again: it is not the archive that was published"
    try:
        with tarfile.open(archive, "r:gz") as file:
            for member in file.getmembers():
                if not (target / member.name).resolve().is_relative_to(target.resolve()):
                    raise VendorError(f"{archive.name} holds {member.name}, which leads out of it", hint)
            # Plain files only: links, which nothing here needs, can lead anywhere.
            file.extractall(target, [member for member in file.getmembers() if member.isfile()])
    except (tarfile.TarError, OSError, EOFError) as error:
        raise VendorError(f"{archive.name} is no readable .tar.gz ({error})", hint) from None


def parts_of(folder: Path) -> tuple[Path, Path]:
    """The wheel and the operators' archive in the unpacked AMCT. Raises VendorError when either is missing."""
    wheels = sorted(folder.rglob(f"amct_onnx-*-py3-none-linux_{platform.machine()}.whl"))
    operators = sorted(folder.rglob("amct_onnx_op.tar.gz"))
    if len(wheels) != 1 or len(operators) != 1:
        inside = ", ".join(sorted(path.name for path in folder.rglob("*") if path.is_file())[:8])
        raise VendorError(
            f"AMCT's archive holds {len(wheels)} wheels amct_onnx-* and {len(operators)} amct_onnx_op.tar.gz: {inside}",
            "this version is packed in another way: see README.md, Unproven",
        )
    return wheels[0], operators[0]


def put_headers(folder: Path, target: Path, scratch: Path) -> str:
    """Copy onnxruntime's headers into the operators' inc/, where sdk/ has its release archive; says what happened.

    Without them the operators' own setup.py downloads them. Raises VendorError for headers of another version.
    """
    version = version_of("onnxruntime")
    archives = sorted(folder.glob("onnxruntime-linux-*.tgz"))
    if not archives:
        return f"onnxruntime's headers: none in sdk/, setup.py downloads those of {version}"
    if not archives[0].name.endswith(f"-{version}.tgz"):
        raise VendorError(
            f"{archives[0].name} is not of onnxruntime {version}, for which AMCT's operators are built",
            f"lay onnxruntime-linux-x64-{version}.tgz of its release page into sdk/, or none",
        )
    unpack(archives[0], scratch)
    target.mkdir(exist_ok=True)
    for name in HEADERS:
        found = sorted(scratch.rglob(name))
        if not found:
            raise VendorError(
                f"{archives[0].name} has no {name}", "take the archive named linux-x64 of the release page"
            )
        shutil.copyfile(found[0], target / name)
    return f"onnxruntime's headers: {version}, from sdk/"


def call(command: list[str], folder: Path, doing: str) -> str:
    """Run a command and give what it printed. Raises VendorError, with the end of that, when it fails."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode("utf-8", errors="replace")
    print(text, end="")
    if done.returncode != 0:
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        raise VendorError(f"{doing} failed: {last}", "README.md, common errors; AMCT's guide, installation")
    return text


def install(folder: Path) -> None:
    """All of it. Raises VendorError."""
    archive = find_archive(folder)
    if archive is None:
        where = WHERE.format(version=chip_list("amct")[0], machine=platform.machine())
        print(f"no AMCT in {folder}: PRECISION=fp16 only. {where}")
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        unpack(archive, scratch / "amct")
        wheel, operators = parts_of(scratch / "amct")
        # Without dependencies: requirements.txt has pinned what AMCT's table names.
        call([sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-deps", str(wheel)], scratch, "pip")
        unpack(operators, scratch / "operators")
        setups = sorted((scratch / "operators").rglob("setup.py"))
        if len(setups) != 1:
            raise VendorError(f"{operators.name} holds {len(setups)} setup.py", "see README.md, Unproven")
        place = setups[0].parent
        print(put_headers(folder, place / "inc", scratch / "onnxruntime"))
        text = call([sys.executable, "setup.py", "build"], place, "building AMCT's operators")
        if BUILT not in text:
            raise VendorError(f"building AMCT's operators ended well without '{BUILT}'", "look at its messages above")
    call([sys.executable, str(Path(__file__).resolve().with_name("amct_session.py"))], folder, "importing AMCT")


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "install_amct.py SDK_FOLDER")
    install(Path(arguments[0]))


if __name__ == "__main__":
    run(main)
