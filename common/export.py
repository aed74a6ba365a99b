"""Export: the float network as ONNX, and the proof that it still computes the same.

    python -m common.export out/<model>/float      -> model.onnx, export.json

A torch network is exported with opset 11, IR 7, static batch 1, input "image": what every chip's compiler reads. The
user's own ONNX stays exactly as it came, after its input and output were held against the spec; of a detector that
decodes its boxes itself, that part is cut off (its chip would have to do it in int8).
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from common.basics.errors import UserError, run
from common.basics.files import replacing, sha256_file, write_json
from common.basics.progress import Progress
from common.basics.wording import listed, shape_text
from common.declarations.spec import ModelSpec
from common.graphs.onnx_graph import (
    Runner,
    check_static,
    graph_inputs,
    graph_outputs,
    load_onnx,
    operator_counts,
    opset_of,
    static_hint,
    tensors,
)
from common.job import FloatReference
from common.tasks import task_of

RANDOM_SAMPLES, REAL_SAMPLES = 3, 3


def export(folder: str | os.PathLike) -> dict[str, Any]:
    """Make model.onnx and export.json in a float reference's folder; returns the content of export.json.

    Raises UserError when the weights or the graph are missing, damaged or do not fit the spec, and when the exported
    graph does not compute what the torch network does.
    """
    reference = FloatReference(folder)
    source = reference.source
    if source["kind"] != "onnx":
        return _export_torch(reference)
    path = Path(source["path"])
    spec = reference.spec
    model = load_onnx(path)
    check_against_spec(model, spec, str(path))
    images, _ = proof_images(spec, reference.folder / "samples.npz")
    model, cut = cut_for_chips(model, spec, images, str(path))
    outputs = Runner(model).run({graph_inputs(model)[0].name: images[:1]})
    check_outputs(outputs, spec, str(path))
    with replacing(reference.folder / "model.onnx") as temporary:
        if cut or _has_external_weights(path):
            onnx.save(model, temporary)  # load_onnx has brought the weights inside: one file, nothing to lose
        else:
            shutil.copyfile(path, temporary)
    # The weights' kind is "onnx": there is no torch network to compare with, so there are no difference figures.
    record = _describe(model, outputs, source) | {"proof": None, "cut": cut}
    write_json(reference.folder / "export.json", record)
    return record


def _export_torch(reference: FloatReference) -> dict[str, Any]:
    import torch

    from common.checkpoints.export_torch import compare_with_torch, initialize_random, to_onnx
    from models.arch import build_architecture

    spec, source = reference.spec, reference.source
    module = build_architecture(dict(spec.architecture or {}), where=f"model {spec.name}")
    unpacked = None
    if source["kind"] == "random":
        initialize_random(module, spec.input.shape)
    else:
        from common.checkpoints.checkpoint import load_checkpoint

        _require_weights(spec, Path(source["path"]))
        unpacked = load_checkpoint(module, source["path"])
    module.eval()
    where = f"the export of {spec.name}"
    with replacing(reference.folder / "model.onnx") as temporary:
        to_onnx(module, spec.input.shape, temporary)
        model = load_onnx(temporary)
        check_against_spec(model, spec, where)
        images, counts = proof_images(spec, reference.folder / "samples.npz")
        outputs, proof = compare_with_torch(module, model, images)
        whole = model
        model, cut = cut_for_chips(model, spec, images, where)
        if model is not whole:
            onnx.save(model, temporary)
            outputs = Runner(model).run({graph_inputs(model)[0].name: images[:1]})
        check_outputs(outputs, spec, where)
    proof |= {"samples": counts}
    record = _describe(model, outputs, source) | {
        "torch": torch.__version__,
        "checkpoint": unpacked,
        "proof": proof,
        "cut": cut,
    }
    write_json(reference.folder / "export.json", record)
    return record


def cut_for_chips(
    model: onnx.ModelProto, spec: ModelSpec, images: np.ndarray, where: str
) -> tuple[onnx.ModelProto, dict[str, Any] | None]:
    """Take the part off that is better done on the host, and prove it: a detector's decode. Others stay as they are.

    A detector's last layers put coordinates of hundreds beside scores of 0..1 into one tensor, which no int8 scale
    fits. Returns the graph, and how it was cut with the figures of the proof; None where nothing was cut.
    """
    if spec.decode.kind != "yolov8":
        return model, None
    from common.graphs.detection_cut import cut_detection_head, prove_cut

    cut, description = cut_detection_head(model, spec, where)
    if cut is model:
        return model, None
    proof = prove_cut(model, cut, {graph_inputs(model)[0].name: images}, spec, where)
    return cut, {"description": description} | proof


def _require_weights(spec: ModelSpec, path: Path) -> None:
    if path.is_file():
        return
    licence = f" (licence {spec.weights.licence})" if spec.weights else ""
    raise UserError(
        f"the weights of {spec.name} are missing: {path}",
        f"`make weights MODEL={spec.name}` downloads them{licence}; or WEIGHTS=file.pth; or WEIGHTS=random",
    )


def proof_images(spec: ModelSpec, samples_path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Random inputs and the first real ones of samples.npz, if it exists: float32 [N, 3, H, W], and the counts."""
    images = np.random.default_rng(0).standard_normal((RANDOM_SAMPLES, *spec.input.shape[1:])).astype(np.float32)
    real = 0
    if samples_path.exists():
        with np.load(samples_path, allow_pickle=False) as stored:
            samples = stored[stored.files[0]][:REAL_SAMPLES]
        if samples.shape[1:] != images.shape[1:]:
            raise UserError(
                f"{samples_path} holds {shape_text(samples.shape)}, not the model's input shape", "remove it"
            )
        images, real = np.concatenate([images, samples]), len(samples)
    return images, {"random": RANDOM_SAMPLES, "real": real}


def check_against_spec(model: onnx.ModelProto, spec: ModelSpec, where: str) -> None:
    """One float32 image input of exactly the spec's shape. Raises UserError that shows both."""
    inputs = graph_inputs(model)
    wanted = shape_text(spec.input.shape)
    if len(inputs) != 1:
        names = ", ".join(f"{tensor.name} {shape_text(tensor.shape)}" for tensor in inputs) or "none"
        raise UserError(f"{where} has {len(inputs)} inputs ({names}); the spec of {spec.name} has one image, {wanted}")
    image = inputs[0]
    if image.dtype != "float32":
        raise UserError(
            f"{where}: input '{image.name}' is {image.dtype}, float32 is needed",
            "export it before any half precision or quantisation: the chip's own step does that",
        )
    shape = image.shape or ()
    if len(shape) == len(spec.input.shape) and all(
        isinstance(size, str) or size == expected for size, expected in zip(shape, spec.input.shape, strict=True)
    ):
        check_static(model, where, spec.input.shape)
        return
    hint = "correct input.shape in the spec, or export the network for this size"
    if len(shape) == 4 and shape[-1] in (1, 3):
        hint = "it is NHWC, channels last: export it as NCHW"
    elif shape_text(shape) == "unknown" or not shape:
        hint = static_hint(where, spec.input.shape)
    raise UserError(
        f"{where}: input '{image.name}' is {shape_text(shape)}, but the spec of {spec.name} says {wanted}", hint
    )


def check_outputs(outputs: dict[str, np.ndarray], spec: ModelSpec, where: str) -> None:
    """The outputs, [N, ...] each, are what the task decodes, and finite. Raises UserError otherwise."""
    task_of(spec).check_outputs({name: (1, *values.shape[1:]) for name, values in outputs.items()}, where)
    bad = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if bad:
        raise UserError(f"{where} gives NaN or infinite values: {listed(bad)}", "check the weights")


def _has_external_weights(path: Path) -> bool:
    raw = onnx.load_model(path, load_external_data=False)
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(raw))


def _describe(model: onnx.ModelProto, outputs: dict[str, np.ndarray], source: dict[str, Any]) -> dict[str, Any]:
    path = source.get("path")
    return {
        "opset": opset_of(model),
        "ir_version": model.ir_version,
        "inputs": [{"name": t.name, "shape": list(t.shape or ()), "dtype": t.dtype} for t in graph_inputs(model)],
        "outputs": [{"name": t.name, "shape": [1, *outputs[t.name].shape[1:]]} for t in graph_outputs(model)],
        "operators": operator_counts(model),
        "weights": source.get("origin", source["kind"]),
        "source": {"kind": source["kind"], "path": path, "sha256": sha256_file(path) if path else None},
    }


def main() -> None:
    """python -m common.export FLOAT_FOLDER"""
    parser = argparse.ArgumentParser(description="export the float network as ONNX and prove the export")
    parser.add_argument("folder", help="out/<model>/float")
    folder = Path(parser.parse_args().folder)
    with Progress(f"export {folder.parent.name}"):
        record = export(folder)
    proof = record["proof"]
    said = f"torch and ONNX differ by {proof['max_abs']:.2g}" if proof else "the file as it came"
    if record["cut"]:
        said += f"; {record['cut']['description']}"
    print(f"export: opset {record['opset']}, IR {record['ir_version']}, weights {record['weights']}; {said}")


if __name__ == "__main__":
    run(main)
