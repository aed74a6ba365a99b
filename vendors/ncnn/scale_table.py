"""The table of scales between calibration and the int8 writer, in the text form that ncnn2table writes.

    conv_0_param_0 163.2 151.9 ...     weights: one scale an output channel (one a group for depthwise convolutions)
    conv_1_param_0 ...
    conv_0 47.6                        activations: one scale for the layer's input
    conv_1 ...

A scale is 127 divided by the largest magnitude that is kept; a layer without lines stays float.
Fact: upstream tools/quantize/ncnn2table.cpp (save_table) and ncnn2int8.cpp (read_int8scale_table).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import VendorError

WEIGHT_SUFFIX = "_param_0"
HINT = "calibrate again with the .param of the same conversion"


@dataclass
class ScaleTable:
    """weights: {layer name: float32 [channels or groups]}; activations: {layer name: float32}."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    activations: dict[str, np.float32] = field(default_factory=dict)

    def without(self, name: str) -> ScaleTable:
        """The same table with layer `name` left float."""
        return ScaleTable(
            {key: value for key, value in self.weights.items() if key != name},
            {key: value for key, value in self.activations.items() if key != name},
        )


def table_text(table: ScaleTable) -> str:
    """The table as text; reading it gives the scales to six decimals ("%f" in ncnn2table)."""
    lines = [f"{name}{WEIGHT_SUFFIX} " + "".join(f"{s:f} " for s in scales) for name, scales in table.weights.items()]
    lines += [f"{name} {scale:f} " for name, scale in table.activations.items()]
    return "\n".join(lines) + "\n"


def parse_table(text: str, where: str) -> ScaleTable:
    """Read a table. Raises VendorError for what is not a number, not finite, not positive, or listed twice."""
    table = ScaleTable()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            break  # ncnn2int8 stops at an empty line too
        name, *words = line.split()
        try:
            scales = np.array([np.float32(word) for word in words], np.float32)
        except ValueError as error:
            raise VendorError(f"{where}:{number}: {name}: {error}", HINT) from None
        if not scales.size or not np.isfinite(scales).all() or (scales <= 0).any():
            raise VendorError(f"{where}:{number}: {name}: every scale must be a finite number above 0", HINT)
        is_weight = "_param_" in name
        target = table.weights if is_weight else table.activations
        key = name.removesuffix(WEIGHT_SUFFIX) if is_weight else name
        if key in target:
            raise VendorError(f"{where}:{number}: {name} is listed twice", HINT)
        if not is_weight and scales.size != 1:
            raise VendorError(f"{where}:{number}: {name}: {scales.size} scales for one input blob", HINT)
        target[key] = scales if is_weight else scales[0]
    return table


def read_table(path: Path) -> ScaleTable:
    """Read a table file; VendorError that names file and line."""
    try:
        return parse_table(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", "calibrate first") from None
    except UnicodeDecodeError:
        raise VendorError(f"{path} is not a table of scales: it is not text", HINT) from None
