"""The options of a rung: how hard the compiler tries, and what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import RungUnavailableError, VendorError
from job_file import Job

HIGHEST = "highest"
LEVELS = (HIGHEST, 0, 1, 2)
# Levels above 0 train: with less than this the compiler falls back to level 0 by itself, with a warning in its log
# ("Reducing optimization level to 0 ... less data than recommended (1024) / no GPU").
IMAGES_TO_TRAIN = 1024
HINT = "rungs in chip.yaml; rung_options.py says what the options mean"


@dataclass(frozen=True)
class Options:
    """level: model_optimization_flavor's optimization_level, or "highest": 2 where a GPU and 1024 images are there,
    else 0. equalization: whether weights and ranges of neighbouring layers are balanced first (the compiler's default).
    outputs_16bit: the output layers get 16-bit weights and activations (a16_w16). finetune: quantisation-aware training
    on the calibration images."""

    level: int | str = HIGHEST
    equalization: bool = True
    outputs_16bit: bool = False
    finetune: bool = False


@dataclass(frozen=True)
class Level:
    """The optimisation level that is used, why, and what it was decided on."""

    level: int
    reason: str
    images: int
    gpus: int


def read_options(job: Job) -> Options:
    """The rung's options, else the plain way. Raises VendorError that names a wrong one."""
    given: dict[str, Any] = job.rung
    known = set(Options.__dataclass_fields__)
    if unknown := sorted(set(given) - known):
        raise VendorError(f"the rung has an option {unknown[0]}, known are {', '.join(sorted(known))}", HINT)
    options = Options(**given)
    if isinstance(options.level, bool) or options.level not in LEVELS:
        raise VendorError(f"the rung's level is {options.level!r}, none of {', '.join(map(str, LEVELS))}", HINT)
    for name in ("equalization", "outputs_16bit", "finetune"):
        if not isinstance(getattr(options, name), bool):
            raise VendorError(f"the rung's {name} is {getattr(options, name)!r}, not true or false", HINT)
    if options.finetune and options.level == 0:
        raise VendorError("the rung asks for finetune at level 0, which trains nothing", HINT)
    return options


def check_images(options: Options, images: int) -> None:
    """RungUnavailableError when the rung trains and there are too few images; known before the SDK starts."""
    if options.level not in (HIGHEST, 0) and images < IMAGES_TO_TRAIN:
        raise RungUnavailableError(
            f"level {options.level} trains on at least {IMAGES_TO_TRAIN} images, and there are {images}",
            f"CALIB= a folder of {IMAGES_TO_TRAIN} images or more, and CALIB_COUNT={IMAGES_TO_TRAIN}",
        )


def choose_level(options: Options, images: int, gpus: int) -> Level:
    """The level for so many calibration images and GPUs. Raises RungUnavailableError when the rung cannot be had."""
    check_images(options, images)
    enough = images >= IMAGES_TO_TRAIN and gpus > 0
    machine = f"{gpus} GPU{'s' * (gpus != 1)}, {images} images (levels above 0 take a GPU and {IMAGES_TO_TRAIN})"
    if options.level == HIGHEST:
        return Level(2 if enough else 0, f"the highest that {machine} allow", images, gpus)
    if options.level and not enough:
        raise RungUnavailableError(
            f"level {options.level} trains on a GPU, and TensorFlow sees none",
            "run the container on a machine with an NVIDIA GPU (docker run --gpus all); README.md, GPU",
        )
    return Level(int(options.level), f"asked for by the rung; {machine}", images, gpus)
