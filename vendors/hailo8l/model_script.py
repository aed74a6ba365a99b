"""The model script (.alls): what the compiler is told about normalising, calibrating and quantising."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from failure import VendorError
from job_file import Job
from rung_options import Level, Options

LARGEST_BATCH = 8  # of the calibration; the number of images has to be a multiple
MOST_IMAGES = 1024  # for statistics; training takes all
COMMAND = re.compile(r"^(?:[A-Za-z_][\w, ]*=\s*)?([a-z_][a-z0-9_]*)\(\s*([^,()]*)[^#]*\)\s*(?:#.*)?$")
# Commands that change what the network is fed or gives: the proof would compare two different things.
REFUSED = {
    "normalization": "it is generated from the model's own scale, mean and std",
    "nms_postprocess": "NMS=hailort generates it",
    "change_output_activation": "it would change the outputs; NMS=hailort generates what it needs",
    "input_conversion": "the network is fed what it was trained on",
    "resize": "the network is fed what it was trained on",
    "transpose": "the network is fed what it was trained on",
}


def calibration_batch(images: int) -> int:
    """The largest batch up to 8 that divides the number of images."""
    return max(size for size in range(1, LARGEST_BATCH + 1) if images % size == 0)


def script_lines(job: Job, options: Options, level: Level, output_layers: Sequence[str]) -> list[str]:
    """The generated lines, in the order in which the vendor's own scripts have them."""
    lines = []
    if job.preprocessing is not None:
        mean, std = (_numbers(values) for values in (job.preprocessing.mean_pixels, job.preprocessing.std_pixels))
        lines.append(f"normalization1 = normalization({mean}, {std})")
    images = min(level.images, MOST_IMAGES)
    lines.append(f"model_optimization_flavor(optimization_level={level.level}, compression_level=0)")
    lines.append(
        f"model_optimization_config(calibration, batch_size={calibration_batch(images)}, calibset_size={images})"
    )
    if not options.equalization:
        lines.append("pre_quantization_optimization(equalization, policy=disabled)")
    if options.finetune:
        lines.append(f"post_quantization_optimization(finetune, policy=enabled, dataset_size={level.images})")
    if options.outputs_16bit:
        lines.append(f"quantization_param([{', '.join(output_layers)}], precision_mode=a16_w16)")
    return lines


def extra_lines(path: Path | None) -> list[str]:
    """The user's own lines (ALLS=file). Raises VendorError, with the line's number, for what is none or may not be."""
    if path is None:
        return []
    hint = "a model script: one command a line, as in Hailo's Dataflow Compiler user guide; '#' begins a comment"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise VendorError(f"ALLS: {path} cannot be read: {error.strerror}", hint) from None
    except UnicodeDecodeError:
        raise VendorError(f"ALLS: {path} is no text", hint) from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = COMMAND.match(stripped)
        if not found:
            raise VendorError(f"ALLS: line {number} of {path} is no command: {stripped}", hint)
        if reason := REFUSED.get(found[1]):
            raise VendorError(f"ALLS: line {number} of {path}: {found[1]} may not be there: {reason}", "take it out")
        lines.append(stripped)
    if not lines:
        raise VendorError(f"ALLS: {path} holds no command", hint)
    return lines


def merged(generated: Sequence[str], extra: Sequence[str]) -> list[str]:
    """The generated lines, less those whose command (and first argument, for commands of many uses) the user gives."""
    given = {_subject(line) for line in extra}
    return [*(line for line in generated if _subject(line) not in given), *extra]


def _subject(line: str) -> str:
    """What two lines may not both say: the flavour as a whole, else the command and its first argument."""
    found = COMMAND.match(line)
    assert found is not None
    return found[1] if found[1] == "model_optimization_flavor" else f"{found[1]}({found[2].strip()}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6f}' for value in values)}]"
