"""HigherHRNet from a photograph to people in it: how the photograph lies in the network's input, and the way back.

    photograph w x h              input W x H                   the same zoom for both sides, the middle on the middle;
    +-----------+                 +--+-----------+--+           black beside it (before normalising)
    |           |    W/w or H/h   |  |           |  |
    |     +     |  ------------>  |  |     +     |  |           published: H is 512 for the short side, W the next
    |           |                 |  |           |  |           multiple of 64 that holds the long one
    +-----------+                 +--+-----------+--+           a chip: W x H is what it was compiled for

The published protocol (tools/valid.py) has an input size for every photograph, several scales and a flip test:

    protocol = PublishedProtocol(spec, flip=True, scales=(1.0,))
    outputs = [run(tensor) for tensor in protocol.inputs(image)]
    predictions = protocol.decode((width, height), outputs)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.associative_embedding import group_people, joint_order
from common.decoding.bottomup_maps import check_maps, maps_of_input
from common.decoding.predictions import Predictions
from common.preprocessing.preprocess import PIXELS_PER_SCALE, crop_matrix, normalize, to_image

SIZE_STEP = 64  # the network halves its input so often, and adds up branches of all sizes
LONGEST_SIDE = 16384  # OpenCV's warp ends at 32766; a strip of a photograph is no input for a network anyway


@dataclass(frozen=True)
class Placement:
    """How a photograph lies in an input of size (width, height): center float64 [2] in image pixels and scale
    float64 [2] in units of 200 px, as common.preprocessing.preprocess.crop_matrix() and to_image() take them."""

    center: np.ndarray
    scale: np.ndarray
    size: tuple[int, int]

    @classmethod
    def fit(cls, width: int, height: int, size: tuple[int, int]) -> Placement:
        """The whole photograph in a fixed input, as large as it fits. size: (width, height) of the input."""
        image_pixels_per_input_pixel = max(width / size[0], height / size[1])
        scale = np.array(size) * image_pixels_per_input_pixel / PIXELS_PER_SCALE
        return cls(_middle(width, height), scale, size)

    @classmethod
    def published(cls, width: int, height: int, short_side: int, scale: float, smallest: float) -> Placement:
        """The input that the published code makes at one of its scales (lib/utils/transforms.py get_multi_scale_size).

        All sizes are whole multiples of the one at the smallest scale. The arithmetic is theirs, in their order: a
        quotient that ends just below a whole number decides over 64 pixels.
        """
        short, long = min(width, height), max(width, height)
        base = int((smallest * short_side + SIZE_STEP - 1) // SIZE_STEP * SIZE_STEP)
        long_base = int((base / short * long + SIZE_STEP - 1) // SIZE_STEP * SIZE_STEP)
        sides = int(base * scale / smallest), int(long_base * scale / smallest)
        if max(sides) > LONGEST_SIDE:
            raise UserError(
                f"a photograph of {width}x{height} pixels needs an input of {sides[1]}x{sides[0]} pixels",
                f"the published protocol keeps the short side at {short_side}: take this photograph out of the set",
            )
        size = sides if width < height else sides[::-1]
        return cls(_middle(width, height), np.array(size) / sides[0] * short / PIXELS_PER_SCALE, size)

    def apply(self, image: np.ndarray, border: int = 0) -> np.ndarray:
        """The photograph in the input: uint8 [H, W, C], bilinear (also when shrinking), `border` around it."""
        import cv2

        matrix = crop_matrix(self.center, self.scale, self.size)
        return cv2.warpAffine(image, matrix, self.size, flags=cv2.INTER_LINEAR, borderValue=(border,) * 4)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Input pixels, [..., 2], in the photograph: float64 [..., 2]."""
        return to_image(points, self.center, self.scale, self.size)


def _middle(width: int, height: int) -> np.ndarray:
    """The photograph's middle as the published code rounds it, to whole pixels, halves up."""
    return np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)], np.float64)


def find_people(heatmaps: np.ndarray, tags: np.ndarray, placement: Placement, spec: ModelSpec) -> Predictions:
    """The people of one photograph from maps at its input's size; `instance` is 0.

    heatmaps: float32 [K, H, W]; tags: float32 [T, K, H, W]. A person's score is the mean of its K joints' heatmap
    values, before missing ones were looked for; its box is the extent of the joints that were found.
    """
    keypoints = keypoint_set(spec.decode.keypoints)
    people, scores = group_people(heatmaps, tags, spec.decode, joint_order(keypoints))
    if not len(people):
        return Predictions.empty(keypoints.count)
    found = people[..., 2] > 0
    people[..., :2] = placement.to_image(people[..., :2])
    first = np.where(found[..., None], people[..., :2], np.inf).min(axis=1)
    last = np.where(found[..., None], people[..., :2], -np.inf).max(axis=1)
    count = len(people)
    boxes = np.concatenate([first, last - first], axis=1).astype(np.float32)
    return Predictions(np.zeros(count, np.int64), scores, people, boxes, np.zeros(count, np.int64))


class PublishedProtocol:
    """Inputs of any size, as the paper's numbers were measured. text: the protocol in words."""

    def __init__(self, spec: ModelSpec, flip: bool = True, scales: Sequence[float] = (1.0,)):
        """scales: of the short side, which is the shorter one of spec.input; tags are taken at scale 1.

        Raises UserError (exit 2) for scales that are not positive, repeat, or are several without 1.
        """
        self.spec, self.flip = spec, flip
        self.scales = tuple(sorted((float(scale) for scale in scales), reverse=True))
        unusable = not self.scales or not all(0 < scale < np.inf for scale in self.scales)
        if unusable or len(set(self.scales)) < len(self.scales):
            words = ",".join(f"{scale:g}" for scale in scales)
            raise UserError(f"SCALES={words} are not different positive numbers", "SCALES=0.5,1,2", USAGE_EXIT)
        if len(self.scales) > 1 and 1.0 not in self.scales:
            raise UserError("SCALES= has no 1, at which tags are taken", "SCALES=0.5,1,2", USAGE_EXIT)
        self.short_side = min(spec.input.shape[2:])
        sizes = f"scales {', '.join(f'{scale:g}' for scale in sorted(self.scales))}" if len(scales) > 1 else "one scale"
        if len(self.scales) == 1 and self.scales != (1.0,):
            sizes = f"scale {self.scales[0]:g}"
        self.text = (
            f"whole images, short side {self.short_side}, long side padded to a multiple of {SIZE_STEP}, {sizes}, "
            f"{'flip test' if flip else 'no flip test'}"
        )

    def placements(self, width: int, height: int) -> list[Placement]:
        """How a photograph lies in each input, from the largest scale to the smallest."""
        return [Placement.published(width, height, self.short_side, scale, self.scales[-1]) for scale in self.scales]

    def inputs(self, image: np.ndarray) -> list[np.ndarray]:
        """The tensors to run, float32 [1, C, h, w], of a uint8 [h, w, 3] BGR photograph.

        From the largest scale to the smallest; with the flip test each is followed by its mirror image.
        """
        height, width = image.shape[:2]
        tensors = []
        for placement in self.placements(width, height):
            tensor = normalize(placement.apply(image, self.spec.input.border), self.spec.input)[None]
            tensors.append(tensor)
            if self.flip:
                tensors.append(np.ascontiguousarray(tensor[..., ::-1]))
        return tensors

    def decode(self, image_size: tuple[int, int], outputs: Sequence[Mapping[str, np.ndarray]]) -> Predictions:
        """The people of one photograph, `instance` 0, from what the network gave for inputs(), in their order.

        image_size: (width, height) of the photograph; outputs: float32 [1, ...] by name. Raises UserError when their
        number or shapes are wrong, or a value is not finite.
        """
        expected = len(self.scales) * (2 if self.flip else 1)
        if len(outputs) != expected:
            raise UserError(f"{self.spec.name}: {len(outputs)} outputs for {expected} inputs of a photograph")
        keypoints = keypoint_set(self.spec.decode.keypoints)
        smallest = self.scales[-1]
        base = Placement.published(*image_size, self.short_side, 1.0, smallest).size
        stages = [
            tuple(None if stage is None else stage[0] for stage in check_maps(output, keypoints.count, self.spec.name))
            for output in outputs
        ]
        total, tags = None, None
        for index, scale in enumerate(self.scales):
            shown = stages[index * 2 : index * 2 + 2] if self.flip else [stages[index], None]
            heatmaps, own_tags = maps_of_input(*shown, keypoints.flip_order, base)
            total = heatmaps if total is None else total + heatmaps
            if scale == 1.0 or len(self.scales) == 1:
                tags = own_tags
        heatmaps = total / np.float32(len(self.scales))
        # As published: the centre and scale of the last pass, at the size of scale 1.
        last = self.placements(*image_size)[-1]
        return find_people(heatmaps, tags, Placement(last.center, last.scale, base), self.spec)
