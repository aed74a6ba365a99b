"""What a cell's variant means: "int8", "int8-b4", "fp16-image_size-double".

The parts stand in one order: the precision; the batch where that is not 1; the vendor folder's own options that make
another artifact; and "double" where a stand-in of the vendor's SDK is asked for. The Makefile writes it, this reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.chip_spec import ChipSpec

DOUBLE = "double"


@dataclass(frozen=True)
class Variant:
    """One way to build a network for a chip. options: by name, those of chip.yaml's variant_options that are set."""

    precision: str
    batch: int = 1
    options: dict[str, str] = field(default_factory=dict)
    double: bool = False

    def make_words(self) -> list[str]:
        """What this variant is called on make's command line: ["PRECISION=int8", "BATCH=4"]."""
        words = [f"PRECISION={self.precision}"] + ([f"BATCH={self.batch}"] if self.batch > 1 else [])
        return words + [f"{name}={value}" for name, value in self.options.items()] + ["DOUBLE=1"] * self.double


def read_variant(text: str, chip: ChipSpec, name: str) -> Variant:
    """The variant of a cell of this chip. Raises UserError (exit 2) when the chip does not build it."""
    precision, *parts = text.split("-")
    if precision not in chip.precisions:
        hint = f"PRECISION={' or PRECISION='.join(chip.precisions)}"
        raise UserError(f"chip '{name}' does not build precision '{precision}'", hint, USAGE_EXIT)
    double = parts[-1:] == [DOUBLE]
    if double:
        parts.pop()
    values = {value for rule in chip.option_rules.values() for value in rule.values}
    batch = 1
    if parts and parts[0].startswith("b") and parts[0] not in values:
        number = parts.pop(0)[1:]
        if not number.isdecimal() or int(number) < 1:
            raise UserError(f"BATCH={number} is no number of 1 or more", "BATCH=4", USAGE_EXIT)
        batch = int(number)
    if batch not in chip.batches:
        listed = " or ".join(f"BATCH={count}" for count in chip.batches)
        raise UserError(f"chip '{name}' does not build BATCH={batch}", listed, USAGE_EXIT)
    options = {}
    for option in chip.variant_options:
        if parts and parts[0] in chip.option_rules[option].values:
            options[option] = parts.pop(0)
    if parts:
        known = [f"{option}={value}" for option in chip.variant_options for value in chip.option_rules[option].values]
        hint = f"known: {', '.join(known)}" if known else f"{name} has plain precisions only"
        raise UserError(f"chip '{name}' does not build '{text}'", hint, USAGE_EXIT)
    return Variant(precision, batch, options, double)
