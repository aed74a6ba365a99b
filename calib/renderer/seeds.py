"""Which random numbers belong to which purpose: what the network has seen in training never turns up in a proof."""

from __future__ import annotations

import numpy as np

# The purpose is a part of the seed itself, so no choice of `seed` or number of scenes makes two purposes meet.
PURPOSES = {"training": 0, "validation": 1, "calibration": 2, "evaluation": 3}
SEED_LIMIT = 2**32  # one word of a SeedSequence; a longer seed would run into the scene's number


def scene_generator(purpose: str, seed: int, index: int) -> np.random.Generator:
    """The random numbers of scene `index` of a set: independent of every other scene's, purpose's and seed's.

    Raises ValueError for a purpose not in PURPOSES and for a seed or an index outside 0..2**32-1.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    if not (0 <= seed < SEED_LIMIT and 0 <= index < SEED_LIMIT):
        raise ValueError(f"seed {seed} and index {index} must be in 0..{SEED_LIMIT - 1}")
    return np.random.default_rng([PURPOSES[purpose], seed, index])
