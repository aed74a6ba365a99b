"""Weights that Ultralytics publishes as its own checkpoints: fetched, and exported to ONNX by Ultralytics itself.

    models/<model>/weights/yolov8n.pt  --(.venv/ultralytics, a process of its own)-->  .../weights/yolov8n.onnx

Ultralytics is under AGPL-3.0, and reading its checkpoints executes them; so it is never imported, only run, in an
environment that nothing else uses and that is made when somebody asks for these weights.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common.basics.errors import UserError
from common.basics.file_kinds import refuse_other_kinds
from common.basics.progress import Progress
from common.basics.terminal import show_command
from common.basics.tool_output import copy_output
from common.declarations.spec import ModelSpec, WeightsSpec
from common.graphs.detection_cut import cut_detection_head
from common.graphs.onnx_graph import check_static, load_onnx

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv" / "ultralytics"
REQUIREMENTS = ROOT / "requirements-ultralytics.txt"
NO_DEPENDENCIES = ROOT / "requirements-ultralytics-no-deps.txt"
RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"  # where Ultralytics 8.4 looks itself
OPSET = 11  # as npumake's own exports: what every chip's compiler reads
LINES_SHOWN = 3


def checkpoint_name(weights: WeightsSpec) -> str:
    """As declared, else that of the exported file: yolov8n.pt for yolov8n.onnx."""
    return weights.checkpoint or Path(weights.file).with_suffix(".pt").name


def checkpoint_url(weights: WeightsSpec) -> str:
    """Where the checkpoint is published: as declared, else Ultralytics' own release."""
    return weights.url or f"{RELEASE}/{checkpoint_name(weights)}"


def licence_notice(spec: ModelSpec) -> str:
    """What has to be known before anything is fetched."""
    return (
        f"weights of {spec.name}: licence {spec.weights.licence}; exported with Ultralytics' own software, which is "
        "under AGPL-3.0 too (it also binds who offers their use over a network; Ultralytics sells other terms: "
        "https://www.ultralytics.com/license)"
    )


def export_checkpoint(spec: ModelSpec, checkpoint: Path, target: Path) -> None:
    """Export an Ultralytics checkpoint to `target` (ONNX, static, the spec's input size) and check what came out.

    Raises UserError when the file is no checkpoint, the environment cannot be made, Ultralytics fails, or its graph has
    not the spec's head.
    """
    refuse_other_kinds(checkpoint, "a torch checkpoint", but={"zip", "pickle"})
    python = environment()
    size = f"{spec.input.height},{spec.input.width}"
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as folder:
        # Ultralytics writes beside the checkpoint, and its settings into the home folder unless told otherwise.
        copy = Path(folder) / checkpoint.name
        shutil.copyfile(checkpoint, copy)
        command = [
            str(python.with_name("yolo")), "export", f"model={copy.name}", "format=onnx", f"opset={OPSET}",
            f"imgsz={size}", "dynamic=False", "simplify=False", "half=False", "nms=False", "device=cpu",
        ]  # fmt: skip
        quiet = {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        show_command(command)
        said = io.StringIO()
        with (
            Progress(f"export {spec.name}") as progress,
            subprocess.Popen(command, cwd=folder, env=os.environ | quiet, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT) as process,
        ):  # fmt: skip
            copy_output(process.stdout, said, progress)
        exported = copy.with_suffix(".onnx")
        if process.returncode or not exported.is_file():
            last = " / ".join(line.strip() for line in said.getvalue().strip().splitlines()[-LINES_SHOWN:])
            raise UserError(
                f"Ultralytics could not export {checkpoint}: {last or 'it says nothing'}",
                f"is it the checkpoint of {spec.name}? remove it to have it fetched again; or export it yourself and "
                "give WEIGHTS=file.onnx",
            )
        model = load_onnx(exported)
        check_static(model, checkpoint.name, spec.input.shape)
        cut_detection_head(model, spec, f"the export of {checkpoint.name}")
        os.replace(exported, target)


def environment() -> Path:
    """The Python of .venv/ultralytics, made from pinned requirements unless it is there already."""
    ready = ENVIRONMENT / "ready"
    wanted = (REQUIREMENTS, NO_DEPENDENCIES)
    if not ready.exists() or any(file.stat().st_mtime > ready.stat().st_mtime for file in wanted):
        make = [
            sys.executable, str(ROOT / "common" / "environment.py"), str(ENVIRONMENT), str(REQUIREMENTS),
            "--constraints", str(ROOT / "constraints.txt"), "--no-deps", str(NO_DEPENDENCIES),
        ]  # fmt: skip
        if subprocess.run(make, check=False).returncode:
            raise UserError(
                "the environment of Ultralytics could not be made; the reason stands above",
                "export on another machine (yolo export model=... format=onnx opset=12) and give WEIGHTS=file.onnx",
            )
    return ENVIRONMENT / "bin" / "python"
