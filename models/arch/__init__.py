"""The network architectures, built by name: `build("hrnet_w32_256x192")` has the published names and shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.spec import load_model
from models.arch.higherhrnet import HigherHRNet
from models.arch.hourglass import Hourglass
from models.arch.hrnet import HRNet
from models.arch.yolov8 import YOLOv8

# A new architecture adds its module and one line here; model.yaml's `architecture.kind` is the key.
KINDS: dict[str, Callable[..., nn.Module]] = {
    "higherhrnet": HigherHRNet,
    "hourglass": Hourglass,
    "hrnet": HRNet,
    "yolov8": YOLOv8,
}


def build(name: str) -> nn.Module:
    """The float32 torch module of models/<name>/model.yaml (or of the model that has `name` as an alias).

    Its weights are torch's defaults: load a checkpoint, or call blocks.initialize(). Raises UserError (exit code 2) for
    an unknown name, and UserError for a model that has no architecture or a wrong one.
    """
    spec = load_model(name)
    if spec.architecture is None:
        raise UserError(
            f"model {spec.name} has no `architecture`: its network comes as an ONNX file", "give ONNX=file.onnx"
        )
    return build_architecture(dict(spec.architecture), where=f"model {spec.name}")


def build_architecture(architecture: dict[str, Any], where: str) -> nn.Module:
    """The module of a model.yaml's `architecture` mapping: `kind`, and the builder's own parameters.

    where: whose mapping it is, for the message. Raises UserError for an unknown kind or parameter.
    """
    parameters = dict(architecture)
    kind = parameters.pop("kind", None)
    if kind not in KINDS:
        raise UserError(
            f"{where}: architecture kind {kind!r} is unknown", f"known kinds: {', '.join(sorted(KINDS))}", USAGE_EXIT
        )
    try:
        return KINDS[kind](**parameters)
    except (TypeError, ValueError) as error:
        signature = inspect.signature(KINDS[kind].__init__)
        raise UserError(f"{where}: architecture {kind}: {error}", f"parameters of {kind}: {signature}") from None
