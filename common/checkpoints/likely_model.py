"""Which models of ours would take a checkpoint that does not fit the asked one: for the error message alone.

Every models/*/model.yaml with an architecture is built on torch's meta device, so without memory for the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from common.basics.errors import UserError
from common.checkpoints.weight_names import rename
from common.declarations.spec import MODELS_FOLDER, read_yaml


class Likeness(NamedTuple):
    """How many of a network's `tensors` a file holds by name, and how many of these in the network's shape; `extra`
    are the file's others. Larger is more alike."""

    names: int
    shapes: int
    tensors: int
    extra: int

    @property
    def fits(self) -> bool:
        return self.shapes == self.tensors and not self.extra


def likenesses(weights: Mapping[str, Tensor]) -> dict[str, Likeness]:
    """How alike a file's weights, under the names that the file has, are to every model's."""
    found = {}
    for name, shapes in _networks().items():
        renamed, _ = rename(weights, shapes)
        shared = [key for key in shapes if key in renamed]
        equal = sum(renamed[key].shape == shapes[key].shape for key in shared)
        found[name] = Likeness(len(shared), equal, len(shapes), len(renamed) - len(shared))
    return found


def nearest_in_words(found: Mapping[str, Likeness]) -> str:
    """The model whose names are shared most."""
    name = max(found, key=lambda name: (*found[name][:2], -found[name].extra), default="")
    if not name or not found[name].names:
        return "no network of ours has such names"
    names, shapes, tensors, extra = found[name]
    return (
        f"none of our networks fits; nearest is {name}: of its {tensors} tensors the file has {names} by name, "
        f"{shapes} of them in its shape{f', and {extra} others' if extra else ''}"
    )


def _networks() -> dict[str, Mapping[str, Tensor]]:
    """{model: its state_dict, without values}. A model.yaml that is in error is left out: here it is no news."""
    from models.arch import build_architecture

    networks: dict[str, Mapping[str, Tensor]] = {}
    built: dict[str, Mapping[str, Tensor]] = {}
    for path in sorted(MODELS_FOLDER.glob("*/model.yaml")):
        try:
            architecture = read_yaml(path).get("architecture")
            if not isinstance(architecture, dict):
                continue
            key = repr(architecture)  # one architecture serves several input sizes
            if key not in built:
                with torch.device("meta"):
                    built[key] = build_architecture(architecture, where=str(path)).state_dict()
            networks[path.parent.name] = built[key]
        except UserError:
            continue
    return networks
