"""Starts a vendor's scripts in the vendor's environment, and believes nothing but the files that come out.

The local engine: .venv/<vendor folder>/bin/python, made by make from the folder's requirements.txt; the others: the
folder's container (container.py). Vendor scripts get one argument, the job folder; what they print goes to
<step>.log in it and, on failure, its tail to the user; with V=1 all of it.

DOUBLE=1: the same scripts with a stand-in of the SDK, tests/doubles/<vendor folder>, which refuses whatever the SDK's
documents do not allow, and computes with integers of the vendor's kind. What it makes is marked, and checked to be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from common import image
from common.basics.errors import UserError, run
from common.basics.files import read_json, replacing, sha256_file, write_json
from common.basics.memory import expected_bytes, reserved
from common.basics.progress import Progress
from common.basics.terminal import show_command, watched
from common.basics.tool_output import copy_output
from common.declarations.spec import ChipSpec
from common.engines import container
from common.job import Cell
from common.plan import DOUBLES

LOG_TAIL_LINES = 15
UNAVAILABLE_EXIT = 3  # failure.py of the vendor folders: this rung cannot be built here
STEP_NAMES = {"compile": "compile", "infer": "simulate", "layers": "layers"}  # by script, as make says them
DOUBLE_MARK = b"NPUMAKE DOUBLE"  # how every artifact of a stand-in begins


class RungUnavailableError(UserError):
    """A rung that this machine, or this calibration, cannot build."""


def double_environment(chip: ChipSpec) -> dict[str, str]:
    """The variables that put the stand-in of the vendor's SDK before everything else."""
    folder = (DOUBLES / chip.folder.name).resolve()
    paths = os.pathsep.join([str(folder), str(folder.parent)])
    # In its own environment's bin lie the tools that a stand-in's commands are written in: its python.
    commands = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {"PYTHONPATH": paths, "PATH": os.pathsep.join(commands), "PYTHONDONTWRITEBYTECODE": "1"}


def in_container(cell: Cell) -> bool:
    """Whether the cell's scripts run in the vendor's container."""
    return not cell.double and container.engine_of(cell.chip_spec, cell.chip) != container.LOCAL


def toolchain_identity(cell: Cell) -> str:
    """What else makes an artifact than files: the container's image, by its id; nothing where there is none."""
    return image.ensure_image(cell.chip_spec, cell.chip, base_asked()) if in_container(cell) else ""


def base_asked() -> str:
    """BASE=, the image to build the container on; empty where it is not set."""
    return os.environ.get("BASE", "")


def in_words(cell: Cell) -> str:
    """Where the cell's scripts run: "local", or the container's image by its name and id."""
    if not in_container(cell):
        return container.LOCAL
    program = container.program_for(cell.chip_spec, cell.chip)
    return f"{program} {image.image_name(cell.chip_spec)} {toolchain_identity(cell)[:19]}"


def vendor_python(chip: ChipSpec) -> Path:
    """The interpreter of the vendor's own environment. Raises UserError when it is not there."""
    python = Path(".venv") / chip.folder.name / "bin" / "python"
    if not python.exists():
        raise UserError(
            f"the environment of {chip.folder} is missing: {python}",
            f"rm -rf .venv/{chip.folder.name}; make .venv/{chip.folder.name}/ready",
        )
    return python


def run_vendor_script(cell: Cell, script: str, *arguments: str, usual: float | None = None) -> float:
    """Run vendors/<folder>/<script> on the job folder; its output goes to <script>.log, its last words to a terminal.

    usual: seconds that the same took before, where that is known.
    Returns the wall time in seconds. Of its memory only the script itself can tell (artifact_record.py of its folder):
    of a container this side sees no more than the client.
    Raises UserError with the script's own ERROR and HINT lines, or the log's tail, when it exits non-zero.
    """
    chip = cell.chip_spec
    step = Path(script).stem
    log = cell.folder / f"{step}.log"
    shown = watched()
    if in_container(cell):
        program = container.program_for(chip, cell.chip)
        command = container.run_command(chip, program, image.image_name(chip), cell.folder, script, arguments, shown)
    else:
        python = sys.executable if cell.double else str(vendor_python(chip))
        command = [python, str(chip.folder / script), str(cell.folder), *arguments]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= double_environment(chip) if cell.double else {}
    if shown:
        environment["PROGRESS"] = "1"  # the script's own stderr is a pipe, but somebody watches behind it
    show_command(command)
    started = time.monotonic()
    with replacing(log) as temporary:
        with (
            open(temporary, "w", encoding="utf-8") as log_file,
            Progress(f"{STEP_NAMES.get(step, step)} {cell.name}", usual=usual) as progress,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process,
        ):
            if cell.double:
                log_file.write(f"{DOUBLE_MARK.decode()}: a stand-in wrote this, not the vendor's SDK\n")
            copier = threading.Thread(target=copy_output, args=(process.stdout, log_file, progress))
            copier.start()
            try:
                code = process.wait()
            except KeyboardInterrupt:
                # The terminal's Ctrl-C reached the script too; give it time to remove what it began.
                process.terminate()
                process.wait(timeout=20)
                raise
            finally:
                copier.join()
        lines = temporary.read_text(encoding="utf-8", errors="replace").splitlines()
    if code != 0:
        raise _failure(cell, script, code, lines, log)
    return round(time.monotonic() - started, 2)


def _failure(cell: Cell, script: str, code: int, lines: list[str], log: Path) -> UserError:
    """The vendor script's own message where it made one; else the end of its log."""
    errors = [index for index, line in enumerate(lines) if line.startswith("ERROR: ")]
    if errors:
        message = lines[errors[-1]].removeprefix("ERROR: ")
        hints = [line.removeprefix("HINT: ") for line in lines[errors[-1] :] if line.startswith("HINT: ")]
        kind = RungUnavailableError if code == UNAVAILABLE_EXIT else UserError
        return kind(f"{cell.name}: {message} (log: {log})", hints[0] if hints else None)
    tail = "\n".join(f" | {line}" for line in lines[-LOG_TAIL_LINES:])
    killed = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    if code == container.KILLED:
        killed = "was killed by signal 9 in its container"
    hint = "signal 9 is often a lack of memory" if code in (-9, container.KILLED) else f"the whole log is {log}"
    return UserError(f"{cell.name}: {script} {killed}\n{tail}", hint)


def compile_cell(cell: Cell, expected: int | None = None, usual: float | None = None) -> None:
    """Run compile.py; check compile.json against the files themselves, and add what only the outside knows.

    expected: bytes of memory to wait for, where the caller knows better than the cell's last compile.json. usual:
    seconds that it took before, where that is known.
    Raises UserError when the artifact is missing, empty, or not the one that compile.json describes.
    """
    result_path = cell.folder / "compile.json"
    expected = expected_bytes(cell) if expected is None else expected
    result_path.unlink(missing_ok=True)
    with reserved(cell, expected):
        seconds = run_vendor_script(cell, "compile.py", usual=usual)
    if not result_path.exists():
        raise UserError(f"{cell.name}: compile.py ended well but wrote no compile.json", "see compile.log beside it")
    result = read_json(result_path)
    check_artifact(cell, result)
    # The whole of it counts as compile time: a user waits for the start of the tools as well.
    added = {"script_seconds": result.get("seconds"), "engine": in_words(cell), "seconds": seconds}
    write_json(result_path, result | added)


def check_artifact(cell: Cell, result: dict[str, Any]) -> None:
    """The artifact on disk is the one that compile.json describes: every file there, its size and SHA-256 equal."""
    for name in result["artifact"]:
        path, expected = cell.folder / name, result["files"][name]
        if not path.is_file():
            raise UserError(f"{cell.name}: {path} is missing", "run the same make again")
        if path.stat().st_size != expected["bytes"] or sha256_file(path) != expected["sha256"]:
            raise UserError(f"{cell.name}: {path} is not the file that compile.json describes", f"remove {cell.folder}")
        if path.stat().st_size == 0:
            raise UserError(f"{cell.name}: {path} is empty", "see compile.log beside it")
        with path.open("rb") as file:
            marked = file.read(len(DOUBLE_MARK)) == DOUBLE_MARK
        if marked != cell.double:
            what = "a stand-in's, not an artifact" if marked else "not marked as a stand-in's"
            raise UserError(f"{cell.name}: {path} is {what}", f"remove {cell.folder}")


def infer(
    folder: str | os.PathLike,
    samples: str | os.PathLike = "",
    outputs: str | os.PathLike = "",
) -> None:
    """Run the artifact in the vendor's simulator: inputs (.npz, [N, ...] each) in, outputs (.npz) out.

    Without `samples` and `outputs`: the cell's own proof inputs, and infer.json with the latency as well.
    Raises UserError when infer.py fails or writes nothing.
    """
    cell = Cell(folder)
    result = Path(outputs or cell.folder / "outputs.npz")
    result.unlink(missing_ok=True)
    with reserved(cell, expected_bytes(cell)):
        run_vendor_script(cell, "infer.py", *([str(samples), str(outputs)] if outputs else []))
    if not result.is_file() or result.stat().st_size == 0:
        raise UserError(f"{cell.name}: infer.py ended well but wrote no {result.name}", "see infer.log beside it")


def main() -> None:
    """python -m common.engines.engine compile|infer CELL"""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=["compile", "infer"])
    parser.add_argument("cell")
    arguments = parser.parse_args()
    cell = Cell(arguments.cell)
    if arguments.step == "compile":
        compile_cell(cell)
    else:
        check_artifact(cell, read_json(cell.folder / "compile.json"))
        infer(cell.folder)


if __name__ == "__main__":
    run(main)
