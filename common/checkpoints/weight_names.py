"""The names under which checkpoint files keep a network's weights, translated to those of our network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# DataParallel's prefix, then that of HigherHRNet's half-precision training: Sequential(tofp16, net, tofp32).
PREFIXES = ("module.", "1.")
# mmpose's names -> the official HRNet's and HigherHRNet's. mmpose 1.x calls the head `head.`, 0.x `keypoint_head.`; a
# network that is defined in mmpose (Hourglass) keeps 0.x's names here.
MMPOSE_NAMES = (("head.", "keypoint_head."), ("backbone.", ""), ("keypoint_head.", ""))
MMPOSE_EXTRA = ("data_preprocessor.mean", "data_preprocessor.std")  # mmpose 1.x: the image normalisation, no weights


def rename(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights under the names that a network has, as far as wrappers' prefixes and mmpose's naming make the difference.

    expected: the network's state_dict. Returns the weights, and the prefixes that were taken off.
    """
    renamed, stripped = dict(weights), []
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in renamed) and not _any(prefix, expected):
            renamed = {name.removeprefix(prefix): tensor for name, tensor in renamed.items()}
            stripped.append(prefix)
    for old, new in MMPOSE_NAMES:
        if _any(old, renamed) and not _any(old, expected):
            renamed = {new + name[len(old) :] if name.startswith(old) else name: t for name, t in renamed.items()}
            stripped.append(old)
    return {name: tensor for name, tensor in renamed.items() if name not in MMPOSE_EXTRA}, stripped


def _any(prefix: str, names: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(prefix) for name in names)
