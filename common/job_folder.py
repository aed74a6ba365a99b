"""`make job MODEL= CHIP=`: what a cell's compiler takes, complete and in one file, for a machine that has the compiler.

    python -m common.job_folder --chip CHIP --model NAME model/chip/variant ...

make has written the files; this packs them into out/jobs/<model>-<chip>-<variant>.tar.gz and says what lies where. Only
what the vendor's scripts read goes in, and a README.txt with the two commands: not what npumake itself keeps in the
cell's folder, and no results. The same files give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import read_json, replacing
from common.basics.wording import size_in_words
from common.cells.cell_results import OUT
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import load_chip
from common.summary import no_cells

JOBS = OUT / "jobs"
README = "README.txt"
FAST = 3  # of gzip's 1 to 9: float32 tensors hardly get smaller with more, only slower


def packed_path(name: str) -> Path:
    """The packed job of the cell model/chip/variant."""
    return JOBS / f"{name.replace('/', '-')}.tar.gz"


def job_files(folder: Path, job: dict[str, Any], chip: ChipSpec) -> list[Path]:
    """Every file that the vendor's scripts read, in a fixed order. Raises UserError when one is missing."""
    found = [folder / "job.json", folder / job["graph"], folder / job["samples"]]
    if job["calibration"]:
        tensors = sorted((folder / job["calibration"]).glob("*.npy"))
        if not tensors:
            raise UserError(f"{folder / job['calibration']} holds no .npy", "run the same make again")
        found += [*tensors, folder / job["calibration"] / "manifest.json"]
    found += [folder / value for name, value in sorted(job["options"].items()) if chip.option_rules[name].file]
    for path in found:
        if not path.is_file():
            raise UserError(f"{path} is missing", "run the same make again")
    return found


def readme(name: str, job: dict[str, Any], chip: ChipSpec) -> str:
    """The text of README.txt: what this is, the two commands, and what comes out."""
    top, vendor = name.replace("/", "-"), chip.folder.name
    platform = f" --platform {chip.platform}" if chip.platform else ""
    container = f'docker run --rm{platform} --network none -u "$(id -u):$(id -g)" -v "$PWD/{top}:/job" npumake-{vendor}'
    lines = [
        f"{job['model']} for {job['chip']}, {job['precision']}: a job for npumake's folder {chip.folder}",
        "",
        "That folder needs nothing but itself; its README.md has the details. Beside the two folders:",
        "",
        f"    docker build{platform} -t npumake-{vendor} {vendor}",
        f"    {container} compile.py /job",
        f"    {container} infer.py /job",
    ]
    if chip.local:
        lines += [
            "",
            "or, in a Python environment made as that README.md says:",
            "",
            f"    python {vendor}/compile.py {top}",
            f"    python {vendor}/infer.py {top}",
        ]
    lines += [
        "",
        f"The artifact is then in this folder, with compile.json, which describes it, and {job['outputs_file']}: the",
        f"network's outputs for the inputs in {job['samples']}, in the same order, as the chip computes them.",
        f"{vendor}/job.schema.json describes every key of job.json.",
        "",
        "npumake takes no artifact back that it did not compile itself. For the proof and the report, run",
        f"`make {job['chip']} ...` where the compiler is, or with DOCKER_HOST=ssh://that-machine from where it is not.",
    ]
    if job["double"]:
        lines += ["", "This job asks for npumake's stand-in of the vendor's SDK: what it makes is no artifact."]
    return "\n".join(lines) + "\n"


def pack(name: str) -> Path:
    """Pack the job of the cell model/chip/variant, whole or not at all; returns the file.

    Names are sorted and owners, modes and times fixed, so that the same job is the same bytes. Raises UserError when a
    file of it is missing.
    """
    folder, target = OUT / name, packed_path(name)
    job = read_json(folder / "job.json")
    chip = load_chip(job["chip"])
    contents = {str(path.relative_to(folder)): path for path in job_files(folder, job, chip)}
    text = readme(name, job, chip).encode()
    with replacing(target) as temporary, temporary.open("wb") as file:
        compressed = gzip.GzipFile(filename="", mode="wb", compresslevel=FAST, fileobj=file, mtime=0)
        with compressed, tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for inner in sorted([*contents, README]):
                entry = tarfile.TarInfo(f"{name.replace('/', '-')}/{inner}")
                entry.mode = 0o644
                if inner == README:
                    entry.size = len(text)
                    archive.addfile(entry, io.BytesIO(text))
                    continue
                with contents[inner].open("rb") as source:
                    entry.size = contents[inner].stat().st_size
                    archive.addfile(entry, source)
    return target


def describe(name: str, packed: Path) -> list[str]:
    """What the user is told of one job: the folder, the packed file and its size, the rung, and what compiles it."""
    folder = OUT / name
    job = read_json(folder / "job.json")
    chip = load_chip(job["chip"])
    lines = [f"{packed}: {size_in_words(packed.stat().st_size)}, the job of {folder}, complete in itself"]
    if rung := job["rung"]:
        of = len(chip.rungs[job["precision"]])
        lines.append(f"  rung {rung['number']} of {of}, {rung['name']}; RUNG=n writes another")
    lines.append(f"  {README} in it has the commands")
    lines.append(f"  {chip.folder}/README.md: how {chip.sdk.name} {chip.sdk.version} compiles it")
    return lines


def pack_all(names: Sequence[str]) -> None:
    """Pack the jobs of these cells, model/chip/variant, and tell of each."""
    for name in names:
        print("\n".join(describe(name, pack(name))))


def main() -> None:
    """python -m common.job_folder --chip CHIP --model NAME CELL... (called by make)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", nargs="*", help="model/chip/variant")
    parser.add_argument("--chip", default="")
    parser.add_argument("--model", default="")
    arguments = parser.parse_args()
    if not arguments.chip:
        raise UserError("which chip? CHIP= is not set", "make job CHIP=name MODEL=name; see make list", USAGE_EXIT)
    load_chip(arguments.chip)
    if not arguments.cells:
        raise no_cells(arguments.chip)
    pack_all(arguments.cells)


if __name__ == "__main__":
    run(main)
