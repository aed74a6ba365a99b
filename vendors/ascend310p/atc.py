"""`atc` and `aoe`: the command lines, and whether they really did what was asked.

Neither the exit code nor the success line nor the file is believed alone: atc has been seen to leave with 0 and without
a file. The order of the arguments and every option are those of the ATC tool's reference; what is not sure about them
is listed in README.md, "Unproven".
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from build_options import BuildOptions
from cann import NPU_MANAGER, Cann
from failure import VendorError
from job_file import Job
from tool_process import Finished, run_tool

SUCCESS = re.compile(r"ATC run success", re.IGNORECASE)
TUNED = re.compile(r"Aoe process finished", re.IGNORECASE)
# Of an .om: MODEL_FILE_MAGIC_NUM of the Graph Engine's source (0x444F4D49, little-endian); newer ones may be archives.
OM_BEGINS = (b"IMOD", b"PK\x03\x04")
DOUBLE_BEGINS = b"NPUMAKE DOUBLE"
SUBGRAPHS, OPERATORS = "1", "2"  # --job_type of aoe; the vendor recommends this order

# What atc prints when it fails: (what to look for, what to do).
KNOWN_FAILURES = (
    (r"libascend_hal\.so", "put the folder of the toolkit's own libascend_hal.so (devlib) on LD_LIBRARY_PATH"),
    (
        r"No module named|ModuleNotFoundError|TBE.{0,40}init",
        "pip install -r requirements.txt into the python3 that is first on PATH: atc compiles with it",
    ),
    (r"E19010|No parser is registered", "an operator or opset that CANN does not read: export with opset 11"),
    (r"E16005|domain_version", "two operator sets in one file: export with torch.onnx.export(..., dynamo=False)"),
    (r"EZ3003|EZ9010|no supported op", "that operator, shape or type has no kernel on this chip: see operators.yaml"),
    (r"soc_version", "this CANN may not know the chip: its image has the kernels of one family only; or give SOC="),
    (r"E10007|E10001|E10\d\d\d", "an option that this CANN does not take: compare its version with chip.yaml"),
    (r"E16002|E76002", "not an ONNX file, or damaged: run make again"),
    (r"Killed|oom|out of memory", "a lack of memory: MAX_COMPILE_CORE_NUMBER=1, or a larger machine"),
)


@dataclass(frozen=True)
class Workplace:
    """Where the tools run: the found CANN, a folder for their files, and the log."""

    cann: Cann
    folder: Path
    log: Path
    bank: Path | None = None  # what aoe found, for atc to use

    def run(self, *command: str) -> Finished:
        environment = dict(self.cann.environment)
        # Both write where they like: caches, logs and kernels all belong into the folder that is removed.
        for name in ("ASCEND_PROCESS_LOG_PATH", "ASCEND_CACHE_PATH", "ASCEND_WORK_PATH"):
            place = self.folder / name.lower()
            place.mkdir(exist_ok=True)
            environment[name] = str(place)
        if self.bank is not None:
            environment["TUNE_BANK_PATH"] = str(self.bank)
        if not os.access(environment.get("HOME", "/nowhere"), os.W_OK):
            environment["HOME"] = str(self.folder)
        return run_tool(command, environment, self.folder, self.log)


def shape_arguments(job: Job, options: BuildOptions) -> list[str]:
    """--input_shape and what makes it several. Also what aoe takes."""
    tensor = job.inputs[0]
    shape = [*tensor.shape]
    more: list[str] = []
    if options.sizes:
        shape[2:] = [-1, -1]
        more = ["--dynamic_image_size=" + ";".join(f"{height},{width}" for height, width in options.sizes)]
    if options.batches:
        shape[0] = -1
        more = ["--dynamic_batch_size=" + ",".join(map(str, options.batches))]
    return [f"--input_shape={tensor.name}:{','.join(map(str, shape))}", *more]


def convert(place: Workplace, job: Job, options: BuildOptions, graph: Path, aipp: Path | None) -> Path:
    """Compile `graph` (a file in the workplace's folder); returns the .om. Raises VendorError, with atc's own words."""
    command = [
        str(place.cann.atc),
        "--framework=5",
        f"--model={graph.name}",
        "--output=network",
        "--input_format=NCHW",
        *shape_arguments(job, options),
        f"--soc_version={options.soc}",
        "--precision_mode=force_fp16",
        "--output_type=FP32",
        "--log=error",
    ]
    if aipp is not None:
        command.append(f"--insert_op_conf={aipp.name}")
    done = place.run(*command)
    made = sorted(place.folder.glob("network*.om"))
    if done.code != 0 or not SUCCESS.search(done.text):
        said = "" if SUCCESS.search(done.text) else ", without its line 'ATC run success'"
        raise VendorError(f"atc ended with {done.ended}{said}: {told_by(done)}", hint_of(done, place.log))
    if len(made) != 1:
        raise VendorError(
            f"atc says that it succeeded, and left {[path.name for path in made] or 'no .om'}",
            f"its own messages stand in {place.log}",
        )
    check_om(made[0], job)
    return made[0]


def check_om(path: Path, job: Job) -> None:
    """VendorError unless the file begins as an .om does; or as a stand-in's, when the job asks for one."""
    with path.open("rb") as file:
        begin = file.read(len(DOUBLE_BEGINS))
    double = begin == DOUBLE_BEGINS
    if double and not job.double:
        raise VendorError(f"the atc found here is a stand-in: {path.name} is no artifact", "take it off PATH")
    if job.double and not double:
        raise VendorError("the job asks for a stand-in of atc, and the real one was found", "leave DOUBLE= out")
    if not double and not begin.startswith(OM_BEGINS):
        raise VendorError(
            f"{path.name} ({path.stat().st_size} bytes) begins with {begin[:8]!r}, which no .om does",
            "compile again; if it stays so, this CANN writes another format: see README.md, Unproven",
        )


def describe(place: Workplace, om: Path) -> Path:
    """Have atc write what the .om holds as JSON (--mode=1); returns the file. Raises VendorError when it does not."""
    made = place.folder / "network.json"
    done = place.run(str(place.cann.atc), "--mode=1", f"--om={om.name}", f"--json={made.name}")
    if done.code != 0 or not made.is_file() or not made.stat().st_size:
        raise VendorError(
            f"atc cannot read its own {om.name} back ({done.ended}): {told_by(done)}", hint_of(done, place.log)
        )
    return made


def tune(place: Workplace, job: Job, options: BuildOptions, graph: Path) -> None:
    """Have aoe look for faster kernels on the NPU of this machine, for atc to use. Raises VendorError without one."""
    aoe = place.cann.atc.with_name("aoe")
    if not job.double and not NPU_MANAGER.exists():
        raise VendorError(
            f"AOE=1 measures on an NPU, and this machine has none ({NPU_MANAGER} is missing)",
            "leave AOE= out, or run the same on the machine with the card; README.md says how",
        )
    if not aoe.is_file():
        raise VendorError(f"{aoe} is missing: this CANN has no tuning tool", "leave AOE= out")
    for kind in (SUBGRAPHS, OPERATORS):
        done = place.run(
            str(aoe),
            "--framework=5",
            f"--model={graph.name}",
            f"--job_type={kind}",
            "--output=tuned",
            "--input_format=NCHW",
            *shape_arguments(job, options),
        )
        if done.code != 0 or not TUNED.search(done.text):
            raise VendorError(
                f"aoe --job_type={kind} ended with {done.ended}: {told_by(done)}", hint_of(done, place.log)
            )


def told_by(done: Finished) -> str:
    """The line of its messages that says most: the first error, else the last line."""
    lines = [line.strip() for line in done.text.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\bE[A-Z]?\d{4,5}\b|ERROR|Error|cannot|No module", line)]
    return (wrong or lines[-1:] or ["it printed nothing"])[0][:400]


def hint_of(done: Finished, log: Path) -> str:
    """What to do about a failure that is known, else where its messages stand."""
    if done.code == -9:
        return "SIGKILL is often a lack of memory: MAX_COMPILE_CORE_NUMBER=1, or a larger machine"
    for pattern, advice in KNOWN_FAILURES:
        if re.search(pattern, done.text, re.IGNORECASE):
            return advice
    return f"its own messages stand in {log}; README.md lists the common ones"
