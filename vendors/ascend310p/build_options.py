"""The make variables of this chip, as they stand in job.json's options: INPUT, DYNAMIC, AOE, SOC."""

from __future__ import annotations

import re
from dataclasses import dataclass

from failure import VendorError
from job_file import Job, chip_list

# What `--soc_version` takes: "Ascend" and the chip name that `npu-smi info` prints (ATC tool, --soc_version).
SOC_VERSIONS = {"ascend310": "Ascend310", "ascend310p": "Ascend310P3", "ascend310b": "Ascend310B4"}
SOC_PATTERNS = {"ascend310": r"Ascend310", "ascend310p": r"Ascend310P\d*", "ascend310b": r"Ascend310B\d*"}
IMAGE_SIZE, BATCH = "image_size", "batch"
MOST_PROFILES = 100  # ATC tool, --dynamic_image_size: two to a hundred


@dataclass(frozen=True)
class BuildOptions:
    """What is built.

    pixels: the artifact takes uint8 NHWC pixels and normalises them itself, else float32 NCHW, normalised.
    sizes: the (height, width) that one artifact takes, empty for its own only. batches: the same for batches.
    tune: tune with AOE first. soc: for --soc_version.
    """

    pixels: bool
    sizes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    tune: bool
    soc: str

    @property
    def dynamic(self) -> bool:
        return bool(self.sizes or self.batches)


def read_options(job: Job) -> BuildOptions:
    """Check the job's options together. Raises VendorError that names the variable and the way out."""
    pixels = _choice(job, "INPUT", ("u8",)) == "u8"
    dynamic = _choice(job, "DYNAMIC", (IMAGE_SIZE, BATCH))
    sizes, batches = tuple(job.sizes) if dynamic == IMAGE_SIZE else (), _batches(job) if dynamic == BATCH else ()
    if dynamic and job.precision != "fp16":
        raise VendorError(
            f"DYNAMIC={dynamic} with PRECISION={job.precision}: what AMCT makes takes one size and one batch",
            "leave DYNAMIC= out, or use PRECISION=fp16",
        )
    if dynamic == IMAGE_SIZE and not 2 <= len(sizes) <= MOST_PROFILES:
        raise VendorError(
            f"DYNAMIC=image_size: the model declares {len(sizes)} size(s), atc takes 2 to {MOST_PROFILES}",
            "list them in model.yaml, input: sizes: [[height, width], ...]; or leave DYNAMIC= out",
        )
    if dynamic == BATCH and job.batch not in batches:
        raise VendorError(
            f"DYNAMIC=batch: the batch {job.batch} is none of {', '.join(map(str, batches))}",
            "build one of those, or add it to dynamic_batches in chip.yaml",
        )
    if pixels:
        _check_pixels(job)
    return BuildOptions(pixels, sizes, batches, _choice(job, "AOE", ("1",)) == "1", _soc(job))


def _choice(job: Job, name: str, allowed: tuple[str, ...]) -> str | None:
    value = job.options.get(name)
    if value is not None and value not in allowed:
        raise VendorError(f"{name}={value} is not {' or '.join(allowed)}", f"leave {name}= out, or give one of them")
    return value


def _batches(job: Job) -> tuple[int, ...]:
    words = chip_list("dynamic_batches")
    if len(words) < 2 or len(words) > MOST_PROFILES or any(not word.isdecimal() or int(word) < 1 for word in words):
        raise VendorError("chip.yaml: dynamic_batches is no list of 2 to 100 numbers", "for example [1, 2, 4, 8]")
    return tuple(sorted({int(word) for word in words}))


def _check_pixels(job: Job) -> None:
    if len(job.inputs) != 1 or job.inputs[0].shape[1] != 3:
        raise VendorError("INPUT=u8 is for one input of three channels", "leave INPUT= out: normalise on the host")
    if job.preprocessing is None:
        raise VendorError(
            "INPUT=u8: job.json does not say how pixels become the network's input",
            "run make again: it writes job.json",
        )


def _soc(job: Job) -> str:
    asked = job.options.get("SOC", SOC_VERSIONS[job.chip])
    if not re.fullmatch(SOC_PATTERNS[job.chip], asked):
        raise VendorError(
            f"SOC={asked} is no {job.chip}: {SOC_VERSIONS[job.chip]}, for example",
            "Ascend and the chip name that `npu-smi info` prints; the other chips are goals of their own",
        )
    return asked
