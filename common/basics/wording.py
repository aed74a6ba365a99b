"""How numbers and the tables of cells are worded. Standard library only: every make prints such a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


def size_in_words(count: float | None) -> str:
    """Bytes as kB, MB or GB (powers of 1000), three digits; "-" for None."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} GB"


def number_in_words(value: float | None, form: str = ".3f", unit: str = "") -> str:
    """A number in this format with its unit; "-" for None."""
    return "-" if value is None else f"{value:{form}}{unit}"


def shape_text(shape: Sequence[int | str] | None) -> str:
    """A shape as people write it: 1x3x256x192."""
    return "unknown" if shape is None else "x".join(map(str, shape)) or "scalar"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Naming(NamedTuple):
    """How a table of cells names its numbers. Where all cells have one metric (one similarity) the headers name it;
    in a table of several the headers are general, and each number has its name before it."""

    metric: str | None
    similarity: str | None

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Naming:
        """For these rows, each of CellResults.facts()."""
        metrics = {row["metric"] for row in rows if row["metric"] and row["metric_float"] is not None}
        similarities = {row["similarity"] for row in rows if row["similarity"]}
        return cls(_only(metrics, "AP"), _only(similarities, "OKS"))

    def header(self, side: str) -> str:
        """'AP float', or 'float'; side: "float" or "chip"."""
        return f"{self.metric} {side}" if self.metric else side

    @property
    def agreement_header(self) -> str:
        return self.similarity or "agreement"

    def metric_of(self, facts: dict[str, Any], side: str) -> str:
        """The metric of one side, '0.854' or 'PCKh 0.854'; "-" where it is not known."""
        return _named(facts["metric"], self.metric, number_in_words(facts[f"metric_{side}"]))

    def agreement_of(self, facts: dict[str, Any]) -> str:
        """'0.9990' or 'IoU 0.9990'; "-" where it is not known."""
        return _named(facts["similarity"], self.similarity, number_in_words(facts["agreement"], ".4f"))


def _only(names: set[str], default: str) -> str | None:
    """The one name, the default for none, None for several."""
    return (next(iter(names)) if names else default) if len(names) < 2 else None


def _named(name: str | None, shared: str | None, words: str) -> str:
    return words if shared or words == "-" else f"{name} {words}"
