"""The published networks' parameter names, shapes and order, as their own model files gave them when run."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from tests.conftest import SHARED


def golden_file(name: str) -> Path:
    """The list of "name shape" lines; skips the test where it is not here."""
    path = SHARED / "golden" / f"{name}.keys.txt"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


def published_names(name: str) -> list[tuple[str, str]]:
    """[(parameter name, its shape as 64x3x3x3 or scalar)], in the published order."""
    return [tuple(line.split()) for line in golden_file(name).read_text().splitlines() if line.strip()]


def names_of(network: nn.Module) -> list[tuple[str, str]]:
    """The same of one of our networks."""
    return [(key, "x".join(map(str, value.shape)) or "scalar") for key, value in network.state_dict().items()]


def parameter_count(network: nn.Module) -> int:
    """How many numbers a network's parameters hold, trained or not; buffers do not count."""
    return sum(parameter.numel() for parameter in network.parameters())
