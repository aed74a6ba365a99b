"""The sidecar artifact.json: what an application has to know to use the artifact, and what the artifact was made of."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from common.cell_results import CellResults, forced_findings
from common.explain import derived_flags
from common.files import read_json, sha256_file
from common.job import Cell
from common.keypoints import keypoint_set
from common.spec import ModelSpec

TOOLS = ("torch", "onnx", "onnxsim", "onnxruntime", "opencv-python-headless", "numpy", "pycocotools")
REFINEMENTS = {
    "quarter": "move the peak 0.25 towards the larger neighbour in x and in y, where 1 < x < width - 1 and "
    "1 < y < height - 1 (HRNet)",
    "dark": "DARK: one Newton step on the logarithm of the smoothed heatmap",
    "none": "the peak's pixel as it is",
}


def preprocessing(spec: ModelSpec, job: dict[str, Any], flags: dict[str, str]) -> dict[str, Any]:
    """From a photograph and a box to the tensor, in numbers and in words. flags: the chip's own, derived."""
    declared, graph_input = spec.input, job["inputs"][0]
    width, height = declared.width, declared.height
    return {
        "input": graph_input["name"],
        "shape": graph_input["shape"],
        "layout": "NCHW",
        "type": "float32",
        "color": declared.color,
        "scale": declared.scale,
        "mean": declared.mean,
        "std": declared.std,
        "padding": spec.decode.padding,
        "aspect_ratio": width / height,
        "interpolation": "bilinear",
        "border": 0,
        "steps": [
            "decode the photograph as it is stored, EXIF orientation ignored",
            f"box [x, y, w, h]; centre = (x + w / 2, y + h / 2); grow the short side until w / h = {width}/{height}",
            f"multiply w and h by {spec.decode.padding:g}",
            f"cut out by the affine map with {width} / w crop pixels per image pixel that puts the centre on "
            f"({width / 2:g}, {height / 2:g}): bilinear, black outside the photograph, size {width}x{height}",
            f"order the channels {declared.color.upper()}",
            f"value = (pixel / {declared.scale:g} - mean) / std, per channel, float32",
        ],
        "chip_flags": flags,
    }


def decoding(spec: ModelSpec, job: dict[str, Any]) -> dict[str, Any]:
    """From the output tensor back to keypoints in the photograph, in numbers and in words."""
    keypoints = keypoint_set(spec.decode.keypoints)
    fitting = [output for output in job["outputs"] if output["shape"][1] == keypoints.count]
    output = fitting[-1]
    height, width = output["shape"][2:]
    stride = [spec.input.width / width, spec.input.height / height]
    return {
        "kind": spec.decode.kind,
        "output": output["name"],
        "shape": output["shape"],
        "stride": stride,
        "refine": spec.decode.refine,
        "keypoints": list(keypoints.names),
        "flip_pairs": [list(pair) for pair in keypoints.flip_pairs],
        "edges": [list(edge) for edge in keypoints.edges],
        "sigmas": keypoints.sigmas.tolist(),
        "steps": [
            "per channel: the place (x, y) of the largest value, which is the score; (0, 0) if that is not positive",
            REFINEMENTS[spec.decode.refine],
            f"image x = centre x + (x - {width / 2:g}) * w / {width}; image y = centre y + (y - {height / 2:g}) * w / "
            f"{width}; w: the padded box's width",
        ],
    }


def provenance(cell: Cell) -> dict[str, Any]:
    """Hashes of all that went in, and the versions of the tools that made it."""
    results = CellResults(cell.folder)
    export = read_json(cell.float_folder / "export.json")
    compiled = results.compiled or {}
    calibration = results.calibration if cell.calibration_request else None
    return {
        "source": export["source"] | {"origin": cell.weights},
        "licence": cell.spec.weights.licence if cell.spec.weights and cell.weights == "published" else None,
        "float_onnx_sha256": sha256_file(cell.float_folder / "model.onnx"),
        "onnx_sha256": sha256_file(cell.folder / "model.onnx"),
        "job_sha256": sha256_file(cell.folder / "job.json"),
        "calibration": calibration
        and {
            "set": calibration["set"],
            "count": calibration["count"],
            "boxes": calibration["boxes"],
            "manifest_sha256": sha256_file(cell.folder / "calib" / "manifest.json"),
        },
        "quantization": compiled.get("quantization"),
        "tools": (compiled.get("tools") or {}) | tool_versions(),
    }


def tool_versions() -> dict[str, str]:
    """Python and the packages that had a hand in the artifact or in its proof, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def sidecar(cell: Cell, proof: dict[str, Any]) -> dict[str, Any]:
    """The content of artifact.json. Raises UserError when a file of the cell is missing or damaged."""
    results = CellResults(cell.folder)
    spec, compiled, job = cell.spec, read_json(cell.folder / "compile.json"), read_json(cell.folder / "job.json")
    metrics, compared = results.metrics or {}, results.compared or {}
    forced = forced_findings(results.calibration if cell.calibration_request else None)
    decode = decoding(spec, job)
    return {
        "version": 1,
        "model": cell.model,
        "chip": cell.chip,
        "variant": cell.variant,
        "precision": cell.precision,
        "task": spec.task,
        "random_weights": cell.weights == "random",
        "forced_lint": forced,
        "artifact": {
            "files": {name: compiled["files"][name] for name in compiled["artifact"]},
            "bytes": compiled["artifact_bytes"],
            "sha256": compiled["sha256"],
        },
        "preprocessing": preprocessing(spec, job, derived_flags(spec, cell.chip_spec)),
        "decode": decode,
        "labels": decode["keypoints"],
        "provenance": provenance(cell),
        "proof": {
            "state": proof["state"],
            "reason": proof["reason"],
            "gate": proof["gate"],
            "oks": compared.get("oks"),
            "AP_float": (metrics.get("float") or {}).get("AP"),
            "AP_chip": (metrics.get("chip") or {}).get("AP"),
            "protocol": metrics.get("protocol"),
            "rendered": results.rendered,
        },
    }
