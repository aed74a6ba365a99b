"""Training crops: scenes are rendered once, ahead of time, and cropped and augmented on the fly.

out/train/<purpose>/pixels.bin   all scenes' BGR pixels, one after the other (decoded JPEG, as at run time)
out/train/<purpose>/people.npz   offsets and sizes of the scenes; scene, box, area and keypoints of each person
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from calib.renderer.annotation import annotate
from calib.renderer.scene import render_scene
from calib.renderer.seeds import scene_generator
from common.basics.files import replacing_folder
from common.declarations.keypoints import KEYPOINT_SETS
from common.preprocessing.preprocess import box_to_center_scale, clip_ground_truth_box, crop_matrix, normalize

CHUNK = 16  # scenes that a rendering process does at a time
ROTATION, SCALE, SHIFT = 15.0, 0.15, 0.03  # augmentation: degrees, factor, share of the crop
HEATMAP_SIGMA = 1.5  # heatmap pixels; HRNet has 2 on 64x48, and this network's heatmaps are 32x24
CELL = 4  # input pixels in a heatmap pixel


def _render_chunk(purpose: str, seed: int, start: int) -> tuple[list[np.ndarray], list[tuple[int, dict]]]:
    """Scenes start..start+CHUNK-1: their pixels, and (scene, COCO annotation) of each person."""
    cv2.setNumThreads(1)
    images, people = [], []
    for index in range(start, start + CHUNK):
        scene = render_scene(scene_generator(purpose, seed, index))
        for person in scene.people:
            people.append((index, annotate(len(people), index, person.keypoints, person.mask)))
        images.append(scene.image)
    return images, people


def render_corpus(folder: Path, purpose: str, seed: int, people: int, processes: int = 2) -> None:
    """Render scenes until there are at least `people` persons in `folder`; nothing to do where it is there already."""
    if (folder / "people.npz").exists():
        return
    offsets, sizes, rows = [0], [], []
    with (
        replacing_folder(folder) as temporary,
        (temporary / "pixels.bin").open("wb") as pixels,
        # Spawned, not forked: torch's threads do not survive a fork.
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        tqdm(total=people, desc=f"render {purpose}", unit="person", disable=None) as bar,
    ):
        start, pending = 0, []
        while len(rows) < people:
            while len(pending) < 2 * processes:
                pending.append(pool.submit(_render_chunk, purpose, seed, start))
                start += CHUNK
            images, found = pending.pop(0).result()
            for image in images:
                pixels.write(image.tobytes())
                offsets.append(offsets[-1] + image.size)
                sizes.append(image.shape[:2])
            rows.extend(found)
            bar.update(len(found))
        for future in pending:
            future.cancel()
        np.savez(
            temporary / "people.npz",
            offsets=np.array(offsets),
            sizes=np.array(sizes),
            scenes=np.array([scene for scene, _ in rows]),
            boxes=np.array([row["bbox"] for _, row in rows], float),
            areas=np.array([row["area"] for _, row in rows], float),
            keypoints=np.array([row["keypoints"] for _, row in rows]).reshape(len(rows), -1, 3),
        )


class Crops:
    """People of a rendered corpus as network inputs and target heatmaps.

    input_spec: ModelSpec.input. padding: ModelSpec.decode.padding.
    """

    def __init__(self, folder: Path, input_spec: Any, padding: float):
        self.pixels = np.memmap(folder / "pixels.bin", np.uint8, "r")
        with np.load(folder / "people.npz", allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.input_spec, self.padding = input_spec, padding
        self.width, self.height = input_spec.width, input_spec.height
        coco = KEYPOINT_SETS["coco17"]
        self.flip_order = coco.flip_order
        # OKS asks for more precision where its sigma is small (eyes), while an eye that is off by half a pixel hardly
        # shows in the squared error. In full proportion the weights would starve hips and ankles.
        self.joint_weights = np.sqrt(coco.sigmas.mean() / coco.sigmas)

    def __len__(self) -> int:
        return len(self.arrays["boxes"])

    def image(self, index: int) -> np.ndarray:
        """The whole photograph that person `index` is in: uint8 [H, W, 3] BGR."""
        scene = self.arrays["scenes"][index]
        height, width = self.arrays["sizes"][scene]
        return self.pixels[self.arrays["offsets"][scene] : self.arrays["offsets"][scene + 1]].reshape(height, width, 3)

    def person(self, index: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The input float32 [3, H, W] and the keypoints float64 [17, 3] in its pixels, v as COCO's.

        With rng it is augmented; without, it is exactly what the network gets at run time.
        """
        image = self.image(index)
        box = clip_ground_truth_box(self.arrays["boxes"][index], image.shape[1], image.shape[0])
        center, scale = box_to_center_scale(box, self.width / self.height, self.padding)
        matrix = crop_matrix(center, scale, (self.width, self.height))
        if rng is not None:
            matrix = _vary(matrix, (self.width, self.height), rng)
        crop = cv2.warpAffine(image, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)
        keypoints = self.arrays["keypoints"][index].copy()
        keypoints[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        if rng is not None:
            if rng.random() < 0.5:
                crop = crop[:, ::-1]
                keypoints = keypoints[self.flip_order]
                keypoints[:, 0] = self.width - 1 - keypoints[:, 0]
            crop = _recolor(crop, rng)
        return normalize(crop, self.input_spec), keypoints

    def targets(self, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heatmaps float32 [17, H/4, W/4] with a Gaussian of height 1 on each joint, and weights float32 [17].

        Unlike HRNet's, the Gaussian sits at the joint itself and not on the nearest pixel: on so small a map the
        rounding would cost more than the network's own error. A joint that is unlabelled or off the map has weight 0.
        """
        columns, rows = np.arange(self.width // CELL), np.arange(self.height // CELL)
        x, y = keypoints[:, 0] / CELL, keypoints[:, 1] / CELL
        horizontal = np.exp(-((columns[None, :] - x[:, None]) ** 2) / (2 * HEATMAP_SIGMA**2))
        vertical = np.exp(-((rows[None, :] - y[:, None]) ** 2) / (2 * HEATMAP_SIGMA**2))
        inside = (x > -0.5) & (x < len(columns) - 0.5) & (y > -0.5) & (y < len(rows) - 0.5)
        maps = vertical[:, :, None] * horizontal[:, None, :]
        weights = np.where((keypoints[:, 2] > 0) & inside, self.joint_weights, 0)
        return maps.astype(np.float32), weights.astype(np.float32)


def _vary(matrix: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Rotate, scale and shift a crop about its own middle: crop_matrix() followed by a random similarity."""
    width, height = size
    angle = rng.uniform(-ROTATION, ROTATION) if rng.random() < 0.6 else 0.0
    change = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1 + rng.uniform(-SCALE, SCALE))
    change[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * size
    return change @ np.vstack([matrix, [0, 0, 1]])


def _recolor(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other light and another camera: contrast, brightness and gamma, a little differently in each channel."""
    ramp = np.linspace(0, 1, 256)[:, None]
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3)
    table = (ramp ** rng.uniform(0.75, 1.35) - 0.5) * gain + 0.5 + rng.uniform(-0.12, 0.12)
    return cv2.LUT(np.ascontiguousarray(crop), np.clip(table * 255, 0, 255).astype(np.uint8)[None])
