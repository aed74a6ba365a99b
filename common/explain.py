"""`make explain MODEL= CHIP=`: the chain of files, and every flag derived from the one declaration of preprocessing."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.basics.errors import USAGE_EXIT, UserError, run
from common.cells.cell_results import OUT
from common.cells.make_trace import dry_run
from common.cells.variant import DOUBLE
from common.declarations.spec import MODELS_FOLDER, ChipSpec, InputSpec, ModelSpec, load_chip, load_model
from common.tasks import task_of

# file, made by, meaning; in the order of the build
FLOAT_CHAIN = [
    ("source.json", "plan", "the model's declaration, and which weights or graph"),
    ("evaluation_set.json", "plan", "the evaluation images, by fingerprint"),
    ("samples.npz", "samples", "the inputs that are run for proof"),
    ("model.onnx", "export", "the float network; export.json: torch = ONNX"),
    ("outputs.npz", "reference", "the float network's outputs on the samples"),
    ("predictions.json", "reference", "what the float network finds in the evaluation images"),
]
CELL_CHAIN = [
    ("request.json", "plan", "model, chip, precision, batch"),
    ("climb.json", "plan", "gate, rung, nodes kept float, the chip's own options, where asked for"),
    ("model.onnx", "fix", "the graph as this chip wants it; fix.json: each pass and its output check"),
    ("preflight.json", "preflight", "the graph against the chip's operator table"),
    ("calib/manifest.json", "calibrate", "calibration tensors, their sources, the lint's verdict"),
    ("job.json", "job", "all that the vendor's scripts may know"),
    ("compile.json", "climb", "the artifact: files, hashes, tool versions, seconds, memory"),
    ("outputs.npz", "climb", "the artifact's outputs on the samples"),
    ("compare.json", "climb", "agreement with float: OKS or IoU, cosine, SQNR"),
    ("metrics.json", "climb", "AP or PCKh before and after, with interval and protocol"),
    ("rungs.json", "climb", "the ways to quantise that were tried, and what each gave"),
    ("pictures.json", "draw", "skeletons or boxes, and heatmaps, float beside chip"),
    ("artifact.json", "proof", "the sidecar that an application needs; proof.json: the ladder of proof"),
]

# What make knows a file by, where that is another one of the same step.
MADE_WITH = {
    "model.onnx": ("fix.json", "export.json"),
    "outputs.npz": ("predictions.json",),
    "artifact.json": ("proof.json",),
}


def derived_values(declared: InputSpec) -> dict[str, str]:
    """The values that vendors' flags are made of, from x = (pixel / scale - mean) / std.

    mean_pixels = mean * scale and std_pixels = std * scale are in units of 0..255 pixels;
    inverse_std_pixels = 1 / std_pixels. Lists are comma-separated, in the declared colour order.
    """

    def joined(values: list[float]) -> str:
        return ",".join(f"{value:.6g}" for value in values)

    return {
        "color": declared.color,
        "COLOR": declared.color.upper(),
        "scale": f"{declared.scale:g}",
        "mean": joined(declared.mean),
        "std": joined(declared.std),
        "mean_pixels": joined([value * declared.scale for value in declared.mean]),
        "std_pixels": joined([value * declared.scale for value in declared.std]),
        "inverse_std_pixels": joined([1 / (value * declared.scale) for value in declared.std]),
        "height": str(declared.height),
        "width": str(declared.width),
    }


def derived_flags(spec: ModelSpec, chip: ChipSpec) -> dict[str, str]:
    """The chip's own flags (chip.yaml `flags`, with {mean_pixels} and so on) filled from the model's declaration.

    Raises UserError when chip.yaml names a value that does not exist.
    """
    values = derived_values(spec.input)
    try:
        return {flag: template.format(**values) for flag, template in chip.flags.items()}
    except KeyError as error:
        raise UserError(f"{chip.folder}/chip.yaml: flags use {error}, which is none of {', '.join(values)}") from None


def print_chain(folder: Path, chain: list[tuple[str, str, str]], skip: set[str], stale: set[str]) -> None:
    """One line a file: whether it is there and as make wants it, its name, which step makes it, what it means."""
    print(f"\n{folder}/")
    for name, step, meaning in chain:
        if name not in skip:
            old = any(str(folder / one) in stale for one in (name, *MADE_WITH.get(name, ())))
            mark = "-" if not (folder / name).exists() else "stale" if old else "made"
            print(f"  {mark:5}  {name:20}  {step:10}  {meaning}")


def variants_of(chip: ChipSpec, folder: Path) -> list[str]:
    """The chip's precisions, and whatever further variants of them somebody asked for (int8-b4, int8-double)."""
    there = sorted(path.parent.name for path in folder.glob("*/request.json"))
    return [*chip.precisions, *(name for name in there if name not in chip.precisions)]


def stale_files(cells: list[str]) -> set[str]:
    """The files of these cells that make would write anew, and those of their float networks."""
    there = [cell for cell in cells if (OUT / cell / "request.json").exists()]
    doubles = [cell for cell in there if cell.endswith(f"-{DOUBLE}")]
    plain = dry_run([cell for cell in there if cell not in doubles])
    return {*plain.causes, *dry_run(doubles, "DOUBLE=1").causes}


def print_declaration(spec: ModelSpec, chip: ChipSpec, where: str) -> None:
    """The one declaration of preprocessing, what it means step by step, and every flag that follows from it."""
    declared = spec.input
    print(f"Declared once, in {where}:")
    print(f"  x = (pixel / {declared.scale:g} - {declared.mean}) / {declared.std}, {declared.color}, {declared.shape}")
    print("So an application prepares its input:")
    for number, step in enumerate(task_of(spec).preprocessing_steps(), 1):
        print(f"  {number}. {step}")
    print(f"Derived from it for the flags of {chip.sdk.name}:")
    flags = derived_flags(spec, chip)
    for flag, value in flags.items():
        print(f"  {flag:34} {value}")
    if not flags:
        print("  none: the artifact takes normalised tensors, and no tool of this chip normalises")


def print_precisions(spec: ModelSpec, chip: ChipSpec) -> None:
    """When each precision turns red, and the ways to build it."""
    for precision in chip.precisions:
        gate = spec.gate_for(precision)
        kind = "calibrated" if precision in chip.calibrated else "float"
        limits = f"{task_of(spec).similarity} {gate.oks:g} against float, or above a loss of {gate.ap_drop:g} AP"
        print(f"  {precision:8} {kind:10}  red below {limits}")
        for number, rung in enumerate(chip.rungs.get(precision, []), 1):
            print(f"  {'':8} {f'RUNG={number}':10}  {rung.name}: {rung.title}")


def main() -> None:
    """python -m common.explain --model NAME [--spec FILE] --chip NAME"""
    parser = argparse.ArgumentParser()
    for name in ("model", "spec", "chip"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    if not arguments.chip or not (arguments.model or arguments.spec):
        raise UserError(
            "explain needs a model and a chip", "make explain MODEL=name CHIP=name; see make list", USAGE_EXIT
        )
    spec = load_model(Path(arguments.spec) if arguments.spec else arguments.model)
    chip = load_chip(arguments.chip)

    print(f"{spec.name} on {chip.title}\n")
    print_declaration(spec, chip, arguments.spec or f"{MODELS_FOLDER}/{spec.name}/model.yaml")
    print("\nPrecisions, when each turns red, and the rungs that a build climbs (GATE= and RUNG= overrule):")
    print_precisions(spec, chip)

    own_folder = chip.variant_options
    if chip.option_rules:
        print("\nOptions that only this chip's folder has:")
        for name, rule in chip.option_rules.items():
            value = "file" if rule.file else " or ".join(rule.values) or "..."
            where = f"; in a folder of its own, {chip.precisions[0]}-{rule.values[0]}" if name in own_folder else ""
            print(f"  {f'{name}={value}':34} {rule.title}{where}")

    print("\nThe chain of files:")
    folder = OUT / spec.name
    variants = variants_of(chip, folder / arguments.chip)
    stale = stale_files([f"{spec.name}/{arguments.chip}/{variant}" for variant in variants])
    print_chain(folder / "float", FLOAT_CHAIN, set(), stale)
    for variant in variants:
        uncalibrated = set() if variant.split("-")[0] in chip.calibrated else {"calib/manifest.json"}
        print_chain(folder / arguments.chip / variant, CELL_CHAIN, uncalibrated, stale)


if __name__ == "__main__":
    run(main)
