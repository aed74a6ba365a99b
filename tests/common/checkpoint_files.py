"""Checkpoint files as people have them: wrapped, prefixed, named by mmpose, or of another network of ours."""

from __future__ import annotations

import functools

import numpy as np
import torch

from common.checkpoints import likely_model

# The networks' own names with as few of them as there can be.
ARCHITECTURE = {
    "kind": "hrnet", "width": 4, "joints": 17, "stem": 8, "planes": 4, "modules": [1, 1, 1],
    "blocks": 1, "bottlenecks": 1,
}  # fmt: skip
ARCHITECTURES = {
    "hrnet": ARCHITECTURE,
    "higherhrnet": ARCHITECTURE | {"kind": "higherhrnet"},
    "hourglass": {"kind": "hourglass", "channels": [4, 8], "blocks": [1, 1]},
    "yolov8": {"kind": "yolov8", "classes": 2, "width": 0.0625},
}
OFFICIAL_HEADS = ("final_layer.", "final_layers.", "deconv_layers.")
# All our networks are built for every error message, in seconds: tests that provoke several do it once.
networks_once = functools.cache(likely_model._networks)


def save(content, tmp_path, **options):
    path = tmp_path / "weights.pth"
    torch.save(content, path, **options)
    return path


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def mmpose(state, head="keypoint_head."):
    """mmpose's names for a network that was published elsewhere, and of its own one, Hourglass, which has them here."""
    if any(name.startswith("keypoint_head.") for name in state):
        return {name.replace("keypoint_head.", head): t for name, t in state.items()}
    return {(head if name.startswith(OFFICIAL_HEADS) else "backbone.") + name: t for name, t in state.items()}


WRAPPINGS = {
    "plain": lambda s: s,
    "training": lambda s: {
        "epoch": 210,
        "model": "pose_hrnet",
        "state_dict": prefixed("module.", s),
        "best_state_dict": s,
        "perf": 0.7,
        "optimizer": {"state": {}},
    },
    "best only": lambda s: {"best_state_dict": s},
    "model": lambda s: {"model": s},
    "half precision training": lambda s: prefixed("1.", s),
    "the same, in parallel": lambda s: {"state_dict": prefixed("module.1.", s)},
    "mmpose 0.x": lambda s: {
        "meta": {"mmpose_version": "0.20", "CLASSES": ("person",), "acc": np.float64(0.7), "lr": np.array([1e-3])},
        "state_dict": mmpose(s),
    },
    "mmpose 1.x": lambda s: {
        "state_dict": mmpose(s, "head.")
        | {"data_preprocessor.mean": torch.zeros(3), "data_preprocessor.std": torch.ones(3)}
    },
}
