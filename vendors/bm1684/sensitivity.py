"""Which layers harm the outputs most as int8, and how many of them must be wider to come as close to float as asked.

Int8 errors of different layers add up nearly independently, so a layer (or a run of neighbours) is judged alone: it is
int8, everything else float32. That is a far clearer signal than changing one layer among hundreds that are all int8.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from failure import quiet
from tqdm import tqdm
from variant_judge import Effort, Judge, Variant, decibels

MORE = 1.3  # when the prediction was too hopeful: how many times more layers the next trial makes wider
TRIALS = 6


def isolated_errors(
    judge: Judge, variant: Variant, layers: Sequence[str], work: Effort, samples: int
) -> dict[str, float]:
    """{layer: the relative error of the outputs with it alone in int8}.

    layers: all operations of the graph in its order. samples: batches per trial. A group of neighbours is judged
    together where the network is too large to try every layer; the worst groups are then looked at layer by layer,
    and in the others each layer counts for its share.
    """
    size = -(-len(layers) // work.groups)
    groups = [list(layers[start : start + size]) for start in range(0, len(layers), size)]
    progress = tqdm(desc="layers alone in int8", total=len(groups), disable=quiet(), file=sys.stderr)

    def alone(names: Sequence[str]) -> float:
        progress.update()
        return judge.error(variant, dict.fromkeys((name for name in layers if name not in names), "F32"), samples)

    of_group = [alone(set(group)) for group in groups]
    found = {name: error / len(group) for group, error in zip(groups, of_group, strict=True) for name in group}
    refined = 0
    for index in sorted(range(len(groups)), key=lambda one: -of_group[one]):
        if len(groups[index]) == 1 or refined + len(groups[index]) > work.refined:
            break
        refined += len(groups[index])
        found.update({name: alone({name}) for name in groups[index]})
    progress.close()
    return found


@dataclass(frozen=True)
class Mixture:
    """layers: those that are wider, worst first. error: of the outputs, measured. predicted: from the single layers."""

    layers: list[str]
    error: float
    predicted: float


def fewest_wider(
    judge: Judge,
    variant: Variant,
    errors: dict[str, float],
    kept: dict[str, str],
    kind: str,
    target: float,
    limit: int,
) -> Mixture:
    """The fewest layers that must be of type `kind` for the outputs' relative error to fall to `target`.

    errors: isolated_errors(). kept: {operation: type} that are wider in any case. limit: at most this many layers.
    A first number is predicted from the single layers' errors; the mixture is then measured, and grows while the
    measured error is above the target.
    """
    ranked = [name for name in sorted(errors, key=lambda name: -errors[name]) if name not in kept]
    remaining = [sum(errors[name] for name in ranked[count:]) for count in range(len(ranked) + 1)]
    limit = min(limit, len(ranked))
    count = next((count for count in range(limit) if remaining[count] <= target), limit)
    for _ in range(TRIALS):
        wider = kept | dict.fromkeys(ranked[:count], kind)
        error = judge.error(variant, wider, name=f"{count} of {len(errors)} layers {kind}")
        if error <= target or count == limit:
            break
        count = min(limit, max(count + 1, round(count * MORE)))
    print(f"quantise: predicted {decibels(remaining[count])} dB, measured {decibels(error)} dB", flush=True)
    return Mixture(ranked[:count], error, remaining[count])
