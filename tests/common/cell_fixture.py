"""A finished cell, made by hand from the real functions: stick figures on plain photographs, float heatmaps that peak
on their joints, and a chip whose heatmaps are the same with noise and coarse steps. Nothing is exported or compiled.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from common.calibrate import calibrate
from common.compare import compare_cell
from common.decode import decode_people
from common.evaluate import metrics
from common.files import sha256_file, write_json
from common.imageset import ImageSet
from common.job import Cell, FloatReference, job_description
from common.keypoints import COCO17
from common.predictions import write_predictions
from common.preprocess import crop_matrix
from common.samples import evaluation_instances, geometry, load_arrays, make_samples

CHIP = "testchip"
# A standing person in units of the body height, x right and y down, in the order of COCO17.names.
STANDING = np.array(
    [[0.00, 0.06], [0.03, 0.04], [-0.03, 0.04], [0.06, 0.06], [-0.06, 0.06], [0.11, 0.20], [-0.11, 0.20],
     [0.15, 0.36], [-0.15, 0.36], [0.17, 0.50], [-0.17, 0.50], [0.08, 0.52], [-0.08, 0.52], [0.09, 0.74],
     [-0.09, 0.74], [0.09, 0.95], [-0.09, 0.95]]
)  # fmt: skip


def make_chip(vendors: Path) -> None:
    """vendors/testchip/chip.yaml"""
    folder = vendors / CHIP
    folder.mkdir(parents=True)
    content = {
        "chips": [CHIP], "title": "Test <Chip>", "artifact": "{model}.bin", "precisions": ["fp32", "int8"],
        "calibrated": ["int8"], "engines": ["local"], "simulator": "the test's own", "proven": "not at all",
        "graph": {"opset": [9, 17], "ir_version": 10, "static": True}, "operators": {"Conv": None},
        "flags": {"--mean": "{mean_pixels}", "--norm": "{inverse_std_pixels}"},
    }  # fmt: skip
    (folder / "chip.yaml").write_text(yaml.safe_dump(content))


def make_image_set(folder: Path, count: int, seed: int, ground_truth: bool = True) -> None:
    """Photographs with one stick figure each, on a different plain ground, and their annotations."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        width, height = 300 + 20 * (index % 3), 280 + 10 * (index % 4)
        ground = cv2.resize(
            random.integers(0, 255, (5, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
        )
        size = random.uniform(0.6, 0.85) * height
        joints = STANDING * size + random.normal(0, 0.015 * size, STANDING.shape)
        joints += [random.uniform(0.35, 0.65) * width, (height - size) / 2]
        for first, second in COCO17.edges:
            cv2.line(ground, *(tuple(int(v) for v in joints[end].round()) for end in (first, second)), (30, 30, 30), 5)
        name = f"{seed:03d}_{index:03d}.jpg"
        cv2.imwrite(str(folder / name), ground)
        low, high = joints.min(0) - 0.04 * size, joints.max(0) + 0.04 * size
        box = [float(value) for value in (*low, *(high - low))]
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        keypoints = np.c_[joints, np.full(17, 2)].round(2).ravel().tolist()
        annotations.append({"id": index + 1, "image_id": index + 1, "category_id": 1, "bbox": box, "iscrowd": 0,
                            "area": 0.53 * box[2] * box[3], "keypoints": keypoints, "num_keypoints": 17})  # fmt: skip
    if ground_truth:
        category = {"id": 1, "name": "person", "keypoints": list(COCO17.names)}
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (folder / "person_keypoints.json").write_text(json.dumps(content))
        return
    detections = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.9}
                  for one in annotations]  # fmt: skip
    for image, one in zip(images, detections, strict=True):
        (folder / image["file_name"]).rename(folder / f"{image['id']:012d}.jpg")
        one["image_id"] = image["id"]
    (folder / "person_detections.json").write_text(json.dumps(detections))


def true_heatmaps(keypoints: np.ndarray, centers: np.ndarray, scales: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Gaussians of sigma 2 on the joints. keypoints: [N, 17, 2] image pixels; returns float32 [N, 17, h, w]."""
    width, height = size
    grid_y, grid_x = np.mgrid[:height, :width]
    maps = np.zeros((len(keypoints), 17, height, width), np.float32)
    for person, (points, center, scale) in enumerate(zip(keypoints, centers, scales, strict=True)):
        matrix = crop_matrix(center, scale, size)
        for joint, (x, y) in enumerate(points @ matrix[:, :2].T + matrix[:, 2]):
            maps[person, joint] = np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / 8)
    return maps


def make_cell(root: Path, variant: str = "int8", noise: float = 0.0, model: str = "toy_pose",
              weights: str = "published", ground_truth: bool = True, people: int = 12,
              force: bool = False) -> Path:  # fmt: skip
    """Make out/<model>/testchip/<variant> under root, up to and with metrics.json; returns its folder.

    noise: standard deviation that the chip's heatmaps add, and the step of their rounding; 0: equal to float.
    The float folder and the image sets are made with the first cell. Run from `root` (Cell paths are relative to it).
    """
    folder = root / "out" / model / CHIP / variant
    folder.mkdir(parents=True)
    reference = FloatReference(root / "out" / model / "float")
    if not reference.folder.exists():
        make_float(root, reference, model, weights, ground_truth, people)
    cell = Cell(folder)
    write_json(folder / "request.json", {"version": 1, "model": model, "chip": CHIP, "variant": variant,
                                         "precision": variant, "options": {}})  # fmt: skip
    (folder / "model.onnx").write_bytes(b"a graph, fixed")
    write_json(folder / "fix.json", {
        "yardstick": "onnxruntime, on the graph as it came", "tolerance": 1e-4, "max_abs": 2e-6, "largest_output": 1.0,
        "samples": {"random": 3, "real": 3}, "opset": [11, 11], "ir_version": [7, 7],
        "passes": [{"name": "ir_version", "changed": False, "changes": []},
                   {"name": "simplify", "changed": True, "changes": ["3 nodes folded"]}],
        "inputs": [{"name": "image", "shape": [1, 3, 128, 96]}],
        "outputs": [{"name": "heatmaps", "shape": [1, 17, 64, 48]}],
    })  # fmt: skip
    write_json(folder / "preflight.json", {"chip": CHIP, "ok": True, "nodes": 42, "operators": ["Conv", "Relu"],
                                           "opset": 11, "ir_version": 7, "problems": []})  # fmt: skip
    if variant != "fp32":
        calibration = root / "calibration"
        if not calibration.exists():
            make_image_set(calibration, 6 if force else 10, seed=1)
        write_json(folder / "calibration_set.json", {"folder": str(calibration), "fingerprint": "0", "count": 100,
                                                     "force": force})  # fmt: skip
        calibrate(folder / "calib", ImageSet.open(calibration), ImageSet.open(cell.evaluation_folder), cell.spec, 100,
                  force, cell.name)  # fmt: skip
    write_json(folder / "job.json", job_description(cell))
    os.link(reference.folder / "samples.npz", folder / "samples.npz")
    artifact = folder / f"{model}.bin"
    artifact.write_bytes(bytes(31000 if variant == "int8" else 120000))
    digest = sha256_file(artifact)
    write_json(folder / "compile.json", {
        "artifact": [artifact.name], "files": {artifact.name: {"bytes": artifact.stat().st_size, "sha256": digest}},
        "artifact_bytes": artifact.stat().st_size, "sha256": digest, "seconds": 4.25,
        "peak_memory_bytes": 123_000_000,
        "tools": {"testsdk": "9.8.7"}, "precision": variant,
        "quantization": {"method": "kl"} if variant == "int8" else None,
        "estimate": None,
    })  # fmt: skip
    (folder / "compile.log").write_text("reading\nwriting <done>\n")
    write_json(folder / "infer.json", {"samples": people, "latency_ms": 7.125, "device": "a test", "simulated": True})
    maps = load_arrays(reference.folder / "outputs.npz")["heatmaps"]
    if noise:
        maps = maps + np.random.default_rng(5).normal(0, noise, maps.shape)
        maps = np.round(maps / noise) * noise
    np.savez(folder / "outputs.npz", heatmaps=maps.astype(np.float32))
    compare_cell(cell)
    measure_cell(cell)
    return folder


def make_float(
    root: Path, reference: FloatReference, model: str, weights: str, ground_truth: bool, people: int
) -> None:
    """out/<model>/float, and the evaluation set."""
    evaluation = root / "evaluation"
    if not evaluation.exists():
        make_image_set(evaluation, people, seed=2, ground_truth=ground_truth)
    spec: dict[str, Any] = {
        "name": model, "task": "topdown_pose", "decode": {"kind": "heatmap", "keypoints": "coco17"},
        "input": {"shape": [1, 3, 128, 96], "color": "rgb", "scale": 255, "mean": [0.485, 0.456, 0.406],
                  "std": [0.229, 0.224, 0.225]},
        "architecture": {"kind": "hrnet"}, "gate": {"int8": {"oks": 0.95, "ap_drop": 0.03}},
        "weights": {"file": "w.pth", "licence": "Apache-2.0"},
    }  # fmt: skip
    kind = {"random": "random", "onnx": "onnx"}.get(weights, "weights")
    path = None if kind == "random" else "models/w.pth"
    source = {"kind": kind, "origin": weights, "path": path}
    write_json(reference.folder / "source.json", {"version": 1, "model": model, "spec": spec, "source": source})
    write_json(reference.folder / "evaluation_set.json", {"folder": str(evaluation), "fingerprint": "0"})
    (reference.folder / "model.onnx").write_bytes(b"a graph")
    proof = {"max_abs": 3e-7, "largest_output": 1.0, "tolerance": 1e-4, "same_peaks": 1.0,
             "samples": {"random": 3, "real": 3}}  # fmt: skip
    write_json(reference.folder / "export.json", {
        "opset": 11, "ir_version": 7, "inputs": [], "outputs": [], "operators": {"Conv": 3}, "weights": weights,
        "source": {"kind": kind, "path": path, "sha256": path and "ab" * 32},
        "proof": None if kind == "onnx" else proof,
    })  # fmt: skip
    make_samples(reference)
    image_set = ImageSet.open(evaluation)
    instances = evaluation_instances(image_set, reference.spec)
    centers, scales = geometry(instances, reference.spec)
    if ground_truth:
        by_id = {one["id"]: one for one in image_set.annotations.people()}
        people_points = [np.reshape(by_id[one.annotation_id]["keypoints"], (-1, 3))[:, :2] for one in instances]
    else:  # nobody knows where the joints are: a standing person in each box
        people_points = [STANDING * one.box[3] + [one.box[0] + one.box[2] / 2, one.box[1]] for one in instances]
    maps = true_heatmaps(np.array(people_points), centers, scales, (48, 64))
    np.savez(reference.folder / "outputs.npz", heatmaps=maps)
    write_predictions(reference.folder / "predictions.json", instances, decode_people(maps, centers, scales))


def measure_cell(cell: Cell) -> None:
    """metrics.json, by the real evaluation, from the outputs of both networks."""
    image_set = ImageSet.open(cell.evaluation_folder)
    instances = evaluation_instances(image_set, cell.spec)
    centers, scales = geometry(instances, cell.spec)
    people = [
        decode_people(load_arrays(folder / "outputs.npz")["heatmaps"], centers, scales)
        for folder in (cell.float_folder, cell.folder)
    ]
    write_json(cell.folder / "metrics.json", metrics(image_set, instances, cell.spec, *people))
