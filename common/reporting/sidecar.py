"""The sidecar artifact.json: what an application has to know to use the artifact, and what the artifact was made of."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from common.basics.files import read_json, sha256_file
from common.cells.cell_results import CellResults, forced_findings
from common.compare import marks
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.explain import derived_flags
from common.job import Cell, labels
from common.tasks import Task, task_of

TOOLS = ("torch", "onnx", "onnxsim", "onnxruntime", "opencv-python-headless", "numpy", "pycocotools")


def preprocessing(task: Task, job: dict[str, Any], flags: dict[str, str]) -> dict[str, Any]:
    """From a photograph (and a box) to the tensor, in numbers and in words. flags: the chip's own, derived."""
    spec, graph_input = task.spec, job["inputs"][0]
    declared = spec.input
    if spec.task == "topdown_pose":
        fitting = {"padding": spec.decode.padding, "aspect_ratio": declared.width / declared.height}
    else:
        fitting = {"sizes": [[declared.height, declared.width]]}
    return {
        "input": graph_input["name"],
        "shape": graph_input["shape"],
        "layout": "NCHW",
        "type": "float32",
        "color": declared.color,
        "scale": declared.scale,
        "mean": declared.mean,
        "std": declared.std,
        **fitting,
        "interpolation": "bilinear",
        "border": declared.border,
        "steps": task.preprocessing_steps(),
        "chip_flags": flags,
    }


def decoding(task: Task, job: dict[str, Any]) -> dict[str, Any]:
    """From the output tensors back to keypoints or boxes in the photograph, in numbers and in words."""
    spec, height, width = task.spec, task.spec.input.height, task.spec.input.width
    outputs = [
        output | {"stride": [width / output["shape"][3], height / output["shape"][2]]} for output in job["outputs"]
    ]
    if spec.task == "topdown_pose":
        used = [output for output in outputs if output["shape"][1] == keypoint_set(spec.keypoints).count][-1]
        numbers = {"output": used["name"], "shape": used["shape"], "stride": used["stride"],
                   "refine": spec.decode.refine}  # fmt: skip
    else:
        numbers = {"outputs": outputs} | spec.decode.model_dump(mode="json", exclude={"kind", "keypoints", "classes"})
    return {"kind": spec.decode.kind} | numbers | _people(spec) | {"steps": task.decoding_steps(job["outputs"])}


def _people(spec: ModelSpec) -> dict[str, Any]:
    """What each keypoint is; nothing for a plain detector."""
    if spec.keypoints is None:
        return {}
    keypoints = keypoint_set(spec.keypoints)
    return {
        "keypoints": list(keypoints.names),
        "flip_pairs": [list(pair) for pair in keypoints.flip_pairs],
        "edges": [list(edge) for edge in keypoints.edges],
        "sigmas": keypoints.sigmas.tolist(),
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
        "rung": {key: results.rung[key] for key in ("number", "name", "title")} if results.rung else None,
        "kept_float": cell.climb_request["keep_float"] or None,
        "options": cell.climb_request["options"] or None,
        "quantization": compiled.get("quantization"),
        "engine": compiled.get("engine"),
        "other_engine": compiled.get("other_engine"),
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
    metric = metrics.get("metric", "AP")
    forced = forced_findings(results.calibration if cell.calibration_request else None)
    task = task_of(spec)
    return {
        "version": 1,
        "model": cell.model,
        "chip": cell.chip,
        "variant": cell.variant,
        "precision": cell.precision,
        "batch": cell.batch,
        "task": spec.task,
        "random_weights": cell.weights == "random",
        **marks(cell),
        "forced_lint": forced,
        "artifact": {
            "files": {name: compiled["files"][name] for name in compiled["artifact"]},
            "bytes": compiled["artifact_bytes"],
            "sha256": compiled["sha256"],
        },
        "preprocessing": preprocessing(task, job, derived_flags(spec, cell.chip_spec)),
        "decode": decoding(task, job),
        # What the numbered things are: a pose network's keypoints, a detector's classes.
        "labels": labels(spec),
        "provenance": provenance(cell),
        "proof": {
            "state": proof["state"],
            "reason": proof["reason"],
            "gate": proof["gate"],
            "similarity": compared.get("similarity"),
            "agreement": compared.get("agreement"),
            "metric": metric,
            f"{metric}_float": (metrics.get("float") or {}).get(metric),
            f"{metric}_chip": (metrics.get("chip") or {}).get(metric),
            "protocol": metrics.get("protocol"),
            "rendered": results.rendered,
        },
    }
