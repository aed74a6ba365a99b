"""`make explain MODEL= CHIP=`: the chain of files, and every flag derived from the one declaration of preprocessing."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.errors import USAGE_EXIT, UserError, run
from common.spec import ChipSpec, InputSpec, ModelSpec, load_chip, load_model

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


def print_chain(folder: Path, chain: list[tuple[str, str, str]], skip: set[str]) -> None:
    """One line a file: whether it is there, its name, what it means, which step makes it."""
    print(f"\n{folder}/")
    for name, step, meaning in chain:
        if name not in skip:
            mark = "made" if (folder / name).exists() else "-"
            print(f"  {mark:4}  {name:20}  {step:10}  {meaning}")


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

    print(f"{spec.name} on {chip.title}\n\nDeclared once, in model.yaml:")
    declared = spec.input
    print(f"  x = (pixel / {declared.scale:g} - {declared.mean}) / {declared.std}, {declared.color}, {declared.shape}")
    print("Derived from it for this chip:")
    for flag, value in derived_flags(spec, chip).items():
        print(f"  {flag:34} {value}")

    own_folder = chip.variant_options
    if chip.option_rules:
        print("\nOptions that only this chip's folder has:")
        for name, rule in chip.option_rules.items():
            value = "file" if rule.file else " or ".join(rule.values) or "..."
            where = f"; in a folder of its own, {chip.precisions[0]}-{rule.values[0]}" if name in own_folder else ""
            print(f"  {f'{name}={value}':34} {rule.title}{where}")

    print("\nThe chain of files:")
    print_chain(Path("out") / spec.name / "float", FLOAT_CHAIN, set())
    for precision in chip.precisions:
        uncalibrated = set() if precision in chip.calibrated else {"calib/manifest.json"}
        print_chain(Path("out") / spec.name / arguments.chip / precision, CELL_CHAIN, uncalibrated)


if __name__ == "__main__":
    run(main)
