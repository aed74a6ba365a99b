"""A finished cell, made by hand from the real functions: stick figures on plain photographs, float outputs that find
them (cell_networks.py), and a chip whose outputs are the same with noise and coarse steps. Nothing is exported or
compiled.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from common.basics.files import sha256_file, write_json
from common.calibrate import calibrate
from common.compare import compare_cell
from common.datasets.imageset import ImageSet
from common.declarations.keypoints import COCO17
from common.decoding.predictions import write_predictions
from common.evaluate import metrics
from common.job import Cell, FloatReference, job_description
from common.samples import load_arrays, make_samples
from common.tasks import task_of
from tests.common.cell_networks import OUTPUTS, SPECS, STANDING

CHIP = "testchip"


def make_chip(vendors: Path) -> None:
    """vendors/testchip/chip.yaml"""
    folder = vendors / CHIP
    folder.mkdir(parents=True)
    content = {
        "chips": [CHIP], "title": "Test <Chip>", "artifact": "{model}.bin", "precisions": ["fp32", "int8"],
        "calibrated": ["int8"], "engines": ["local"],
        "sdk": {"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
        "simulator": "the test's own", "proven": "not at all",
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


def make_cell(root: Path, variant: str = "int8", noise: float = 0.0, model: str = "toy_pose",
              weights: str = "published", ground_truth: bool = True, people: int = 12,
              force: bool = False, task: str = "topdown_pose") -> Path:  # fmt: skip
    """Make out/<model>/testchip/<variant> under root, up to and with metrics.json; returns its folder.

    noise: standard deviation that the chip's outputs add, and the step of their rounding; 0: equal to float.
    The float folder and the image sets are made with the first cell. Run from `root` (Cell paths are relative to it).
    """
    folder = root / "out" / model / CHIP / variant
    folder.mkdir(parents=True)
    reference = FloatReference(root / "out" / model / "float")
    if not reference.folder.exists():
        make_float(root, reference, model, weights, ground_truth, people, task)
    cell = Cell(folder)
    write_json(folder / "request.json", {"version": 1, "model": model, "chip": CHIP, "variant": variant,
                                         "precision": variant})  # fmt: skip
    (folder / "model.onnx").write_bytes(b"a graph, fixed")
    outputs = load_arrays(reference.folder / "outputs.npz")
    write_json(folder / "fix.json", {
        "yardstick": "onnxruntime, on the graph as it came", "tolerance": 1e-4, "max_abs": 2e-6, "largest_output": 1.0,
        "samples": {"random": 3, "real": 3}, "opset": [11, 11], "ir_version": [7, 7],
        "passes": [{"name": "ir_version", "changed": False, "changes": []},
                   {"name": "simplify", "changed": True, "changes": ["3 nodes folded"]}],
        "inputs": [{"name": "image", "shape": cell.spec.input.shape}],
        "outputs": [{"name": name, "shape": [1, *value.shape[1:]]} for name, value in outputs.items()],
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
    random = np.random.default_rng(5)
    for name, value in outputs.items() if noise else ():
        outputs[name] = (np.round((value + random.normal(0, noise, value.shape)) / noise) * noise).astype(np.float32)
    np.savez(folder / "outputs.npz", **outputs)
    compare_cell(cell)
    measure_cell(cell)
    return folder


def make_float(
    root: Path, reference: FloatReference, model: str, weights: str, ground_truth: bool, people: int, task: str
) -> None:
    """out/<model>/float, and the evaluation set."""
    evaluation = root / "evaluation"
    if not evaluation.exists():
        make_image_set(evaluation, people, seed=2, ground_truth=ground_truth)
    spec: dict[str, Any] = SPECS[task] | {
        "name": model, "task": task, "architecture": {"kind": "hrnet"},
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
    decoder = task_of(reference.spec)
    instances = decoder.instances(image_set)
    outputs = OUTPUTS[task](decoder, image_set, instances)
    np.savez(reference.folder / "outputs.npz", **outputs)
    write_predictions(reference.folder / "predictions.json", instances, decoder.decode(outputs, instances))


def measure_cell(cell: Cell) -> None:
    """metrics.json, by the real evaluation, from the outputs of both networks."""
    task, image_set = task_of(cell.spec), ImageSet.open(cell.evaluation_folder)
    instances = task.instances(image_set)
    found = [task.decode(load_arrays(folder / "outputs.npz"), instances) for folder in (cell.float_folder, cell.folder)]
    write_json(cell.folder / "metrics.json", metrics(task, image_set, instances, *found))
