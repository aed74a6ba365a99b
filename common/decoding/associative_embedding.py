"""From heatmaps and tag maps of a whole image to people, as HigherHRNet does it (lib/core/group.py).

    heatmaps [K, h, w]       candidates of each joint        people [P, K, 3]
    +-------w-------+        nose   (3, 5)  0.9  tag  1.2    person 0 (mean tag  1.1)  nose, left eye, ...
    |  .  9  .  .  .|        nose   (9, 4)  0.8  tag -0.7 -> person 1 (mean tag -0.7)  nose, right hip, ...
    h  .  .  .  8  .|  --->
    +---------------+        Joint after joint, torso first: candidates go to the people whose tags are nearest;
    tags [T, K, h, w]        who is near to nobody begins a new person. A person's missing joints are then looked for
                             wherever the tags are near.

T is 1, or 2 with the flip test, whose tags are a second component. Scores are raw heatmap values.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from common.declarations.decode_spec import AssociativeEmbeddingSpec
from common.declarations.keypoints import KeypointSet
from common.decoding.assignment import assign
from common.decoding.tag_search import TagSearch

# lib/core/group.py Params.joint_order: the torso comes before the limbs, so that their tags have a mean to go by.
_COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
_COST_OF_ONE_TAG = 100.0  # a rounded tag distance of 1 outweighs any score
_COST_OF_NOBODY = 1e10
THREADS = 2  # numpy and OpenCV let go of Python's lock in what is long here, the passes over whole maps


@dataclass(frozen=True)
class Candidates:
    """The peaks of one joint, the strongest first. places: int64 [C, 2], x and y; scores: float32 [C];
    tags: float32 [C, T]."""

    places: np.ndarray
    scores: np.ndarray
    tags: np.ndarray


@dataclass
class _Person:
    """joints: float32 [K, 3]; x, y, score, zeros where missing. tags: float32 [K, T], of the `joined` first rows."""

    joints: np.ndarray
    tags: np.ndarray
    joined: int = 0

    def join(self, tag: np.ndarray) -> None:
        self.tags[self.joined] = tag
        self.joined += 1

    def mean_tag(self) -> np.ndarray:
        """float32 [T]; what np.mean() says, at a tenth of its cost."""
        return np.add.reduce(self.tags[: self.joined], axis=0) / np.float32(self.joined)


def joint_order(keypoints: KeypointSet) -> tuple[int, ...]:
    """The order in which joints are given to people: the published one for COCO, else as they are numbered."""
    return _COCO_ORDER if keypoints.name == "coco17" else tuple(range(keypoints.count))


def group_people(
    heatmaps: np.ndarray, tags: np.ndarray, settings: AssociativeEmbeddingSpec, order: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the people of one image.

    heatmaps: float32 [K, h, w]; tags: float32 [T, K, h, w]; order: joint_order().
    Returns (people float32 [P, K, 3]: x, y in pixels of the maps and the raw heatmap value, zeros for a joint that
    was not found; scores float64 [P]: the mean of a person's K values before `refine`, missing joints as 0).
    People come in the order in which they were begun; without any, P is 0. As in the published code,
    settings.maximum_people limits the candidates of a joint and the people that further joints can join, not P.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return _group(heatmaps, tags, settings, order, pool)


def _group(
    heatmaps: np.ndarray,
    tags: np.ndarray,
    settings: AssociativeEmbeddingSpec,
    order: Sequence[int],
    pool: ThreadPoolExecutor,
) -> tuple[np.ndarray, np.ndarray]:
    joints = range(len(heatmaps))
    candidates = list(pool.map(lambda joint: find_candidates(heatmaps[joint], tags[:, joint], settings), joints))
    people = match_candidates(candidates, settings, order)
    if settings.adjust:
        found = people[..., 2] > 0
        person, joint = np.nonzero(found)
        places = people[person, joint, :2].astype(np.intp)
        people[person, joint, :2] = places + quarter_steps(heatmaps, joint, places) + 0.5
    # Person by person, because the published code adds up float32 in this order.
    scores = np.array([person[:, 2].mean() for person in people], np.float64)
    if settings.refine:
        search = TagSearch(heatmaps, tags)
        (wanted,) = np.nonzero((people[..., 2] == 0).any(axis=0))
        list(pool.map(search.prepare, wanted.tolist()))
        for person in people:
            _fill_missing(person, heatmaps, tags, search)
    return people, scores


def find_candidates(heatmap: np.ndarray, tags: np.ndarray, settings: AssociativeEmbeddingSpec) -> Candidates:
    """The strongest pixels of a joint's heatmap, float32 [h, w], with their tags, from float32 [T, h, w].

    They are above the threshold and the largest of the square around them; on a plateau every pixel is. Among equal
    ones the first in row order comes first.
    """
    flat, width = heatmap.reshape(-1), heatmap.shape[1]
    places = _peaks(heatmap, _largest_float32(settings.detection_threshold), settings.nms_kernel)
    values = flat[places]
    most = settings.maximum_people
    if len(values) > most:
        strong = values >= np.partition(values, len(values) - most)[len(values) - most]
        places, values = places[strong], values[strong]
    strongest = np.argsort(-values, kind="stable")[:most]
    places = places[strongest]
    coordinates = np.stack([places % width, places // width], axis=1)
    return Candidates(coordinates, values[strongest], tags.reshape(len(tags), -1)[:, places].T)


def _peaks(heatmap: np.ndarray, threshold: np.float32, kernel: int) -> np.ndarray:
    """The pixels above the threshold that no pixel of the square around them exceeds, int64 [n] along the rows.

    What a maximum filter over the whole map finds, at half its cost: nearly all pixels lose against one of their four
    neighbours, so that few are left to be held against the whole square.
    """
    height, width = heatmap.shape
    flat = heatmap.reshape(-1)
    places = np.flatnonzero(flat > threshold)
    if kernel > 1:
        # What lies beside the border in memory is no neighbour: the border's own pixels are not asked.
        along, down = np.arange(width), np.arange(height) * width
        border = np.concatenate([along, along + down[-1], down, down + width - 1])
        border = border[flat[border] > threshold]
        for step in (1, -1, width, -width):
            places = places[flat[places] >= flat.take(places + step, mode="clip")]
        places = np.union1d(places, border)
    # Beyond the border its own pixel stands again, which is in the square already.
    steps = np.arange(kernel) - kernel // 2
    rows = np.clip((places // width)[:, None] + steps, 0, height - 1) * width
    columns = np.clip((places % width)[:, None] + steps, 0, width - 1)
    return places[flat[rows[:, :, None] + columns[:, None, :]].max(axis=(1, 2), initial=-np.inf) <= flat[places]]


def _largest_float32(value: float) -> np.float32:
    """The largest float32 that is not above `value`: every float32 is above both or above neither.

    The published code compares in float64, and float32's 0.1 is above 0.1.
    """
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))


def match_candidates(
    candidates: Sequence[Candidates], settings: AssociativeEmbeddingSpec, order: Sequence[int]
) -> np.ndarray:
    """Give the candidates of K joints to people. Returns float32 [P, K, 3]: x, y, score; zeros where missing.

    A person is known by the first tag component of whoever began it: a second one with exactly this tag takes the
    place of the first and its tags, but keeps its other joints (group.py match_by_tag, a dict of float32 keys).
    """
    people: dict[np.float32, _Person] = {}
    for joint in order:
        found = candidates[joint]
        if not len(found.scores):
            continue
        known = list(people)[: settings.maximum_people]
        if known and settings.ignore_too_much and len(known) == settings.maximum_people:
            continue
        columns = _nearest_people(found, [people[key] for key in known], settings)
        for row, column in enumerate(columns):
            if column >= 0:
                person = people[known[column]]
            else:
                person = people.setdefault(found.tags[row, 0], _nobody(len(candidates), found.tags.shape[1]))
                person.joined = 0
            person.join(found.tags[row])
            person.joints[joint, :2] = found.places[row]
            person.joints[joint, 2] = found.scores[row]
    return np.array([person.joints for person in people.values()], np.float32).reshape(-1, len(candidates), 3)


def _nobody(joints: int, components: int) -> _Person:
    return _Person(np.zeros((joints, 3), np.float32), np.zeros((joints, components), np.float32))


def _nearest_people(found: Candidates, people: Sequence[_Person], settings: AssociativeEmbeddingSpec) -> np.ndarray:
    """Which person each candidate joins, int [C]; -1 for a new one. One to one, nearest mean tags in sum.

    Distances are rounded to whole numbers before they are compared, then the stronger candidate has the choice; but
    a candidate joins only within the threshold, unrounded. Everything in float64, as in the published code.
    """
    columns = np.full(len(found.scores), -1)
    if not people:
        return columns
    means = np.array([person.mean_tag() for person in people])
    distances = np.linalg.norm(found.tags[:, None].astype(np.float64) - means[None], ord=2, axis=2)
    cost = distances
    if settings.use_detection_value:
        cost = np.round(distances) * _COST_OF_ONE_TAG - found.scores[:, None].astype(np.float64)
    spare = len(found.scores) - len(people)
    if spare > 0:
        cost = np.concatenate([cost, np.full((len(cost), spare), _COST_OF_NOBODY)], axis=1)
    for row, column in enumerate(assign(cost)):
        if column < len(people) and distances[row, column] < settings.tag_threshold:
            columns[row] = column
    return columns


def quarter_steps(heatmaps: np.ndarray, joints: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Plus 0.25 towards a larger right (lower) neighbour, else minus 0.25, always; float64 [N, 2].

    joints: int [N]; places: int [N, 2], x and y. Beyond the border the pixel itself is the neighbour.
    """
    height, width = heatmaps.shape[1:]
    x, y = places[:, 0], places[:, 1]
    right = heatmaps[joints, y, np.minimum(x + 1, width - 1)] > heatmaps[joints, y, np.maximum(x - 1, 0)]
    lower = heatmaps[joints, np.minimum(y + 1, height - 1), x] > heatmaps[joints, np.maximum(y - 1, 0), x]
    return np.where(np.stack([right, lower], axis=1), 0.25, -0.25)


def _fill_missing(person: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray, search: TagSearch) -> None:
    """Put the missing joints of a person (float32 [K, 3], changed) where heatmap - round(tag distance) is largest,
    if the heatmap is positive there."""
    (present,) = np.nonzero(person[:, 2] > 0)
    (missing,) = np.nonzero(person[:, 2] == 0)
    if not len(missing):
        return
    x, y = person[present, :2].astype(np.intp).T
    mean = np.mean(list(tags[:, present, y, x].T), axis=0)
    width = heatmaps.shape[2]
    flat = np.array([search.best_place(joint, mean) for joint in missing])
    places = np.stack([flat % width, flat // width], axis=1)
    values = heatmaps[missing, places[:, 1], places[:, 0]]
    filled = values > 0
    placed = places + 0.5 + quarter_steps(heatmaps, missing, places)
    person[missing[filled], :2] = placed[filled]
    person[missing[filled], 2] = values[filled]
