"""The stages of TPU-MLIR, one command each: ONNX -> top graph -> quantised graph -> BModel.

    transform()   model_transform: the top graph (float32, chip-independent), compared with the ONNX tensor by tensor
    lower()       tpuc-opt: the quantised graph alone, for a search; the same passes as inside model_deploy
    deploy()      model_deploy: the quantised graph compared with the top graph, and the BModel with the quantised graph

A graph is a text file (.mlir) that names its weight file relative to the working directory: both lie in one folder,
and whoever loads a graph works there. All names are fixed, so that the same job gives the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bmodel_file import mode_left_out
from compiler_faults import write_graph
from failure import VendorError
from job_file import Job
from toolchain import run_tool

TOP, TOP_WEIGHTS = "net.mlir", "net_top_f32_all_weight.npz"
SAMPLE, REFERENCE = "sample.npz", "top.npz"
NAME = "net"
MODES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "INT8"}
# Smallest (cosine, euclidean) similarity of the quantised graph's outputs to the top graph's. For float32 the vendor's
# own limits hold. For all else the figures are recorded and nothing is refused here: a network may be right with less
# than the vendor's 0.90,0.80, and wrong with more. What decides is the task's own measure on real images.
QUANTISED_TOLERANCE = {"F32": "0.99,0.99"}
# Below every similarity. In quotes and behind a space: it reaches npz_tool through a shell, where it must be no option.
ANY_SIMILARITY = "' -2,-1e30'"


@dataclass(frozen=True)
class Comparison:
    """What the vendor's npz_tool found: tensors compared, how many equal, smallest similarities (sqnr in dB)."""

    compared: int
    equal: int
    cosine: float
    euclidean: float
    sqnr_db: float | None  # None: all equal

    def record(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "equal": self.equal,
            "cosine": round(self.cosine, 6),
            "euclidean": round(self.euclidean, 6),
            "sqnr_db": None if self.sqnr_db is None else round(self.sqnr_db, 3),
        }


@dataclass(frozen=True)
class TopGraph:
    """The float graph in `folder`: net.mlir, its weights, sample.npz (input), top.npz (every tensor for that input)."""

    folder: Path
    comparison: dict[str, Any]
    seconds: float

    @property
    def files(self) -> list[Path]:
        return [self.folder / name for name in (TOP, TOP_WEIGHTS, SAMPLE, REFERENCE)]


def comparisons(output: str) -> list[Comparison]:
    """All results of npz_tool in a command's output, in order. Raises VendorError when one compared nothing."""
    found = []
    pattern = re.compile(
        r"^(\d+) compared$.*?^ *(\d+) equal,.*?^min_similarity = \(([^,]+), ([^,]+), ([^)]+)\)",
        re.MULTILINE | re.DOTALL,
    )
    for match in pattern.finditer(output):
        compared, equal = int(match[1]), int(match[2])
        if not compared:
            raise VendorError(
                "the vendor's comparison compared nothing", "names differ between two stages: see the log"
            )
        cosine, euclidean, sqnr = (float(value) for value in match.groups()[2:])
        found.append(Comparison(compared, equal, cosine, euclidean, sqnr if np.isfinite(sqnr) else None))
    return found


def transform(job: Job, sample: dict[str, np.ndarray], folder: Path) -> TopGraph:
    """Make the top graph in `folder` and compare it with the ONNX on `sample` (float32 [batch, C, H, W] by input name).

    Raises VendorError when model_transform fails, or the two differ (cosine and euclidean similarity below 0.99).
    """
    np.savez(folder / SAMPLE, **sample)
    shapes = ",".join("[" + ",".join(map(str, tensor.shape)) + "]" for tensor in job.inputs)
    # In this folder: side files are named after it, and must not appear beside the job's own file.
    write_graph(job, folder / "model.onnx")
    arguments = ["--model_name", NAME, "--model_def", "model.onnx", "--input_shapes", f"[{shapes}]"]
    arguments += ["--test_input", SAMPLE, "--test_result", REFERENCE, "--mlir", TOP]
    done = run_tool("model_transform", arguments, folder, [TOP, TOP_WEIGHTS, REFERENCE], _transform_hint(job))
    compared = comparisons(done.output)
    if not compared:
        raise VendorError("model_transform did not compare its graph with the ONNX", "see its output in the log")
    return TopGraph(folder, compared[0].record(), done.seconds)


def _transform_hint(job: Job) -> str:
    return (
        f"run {job.graph.name} through the fix step (opset 11, static shapes); chip.yaml lists the operators, "
        "and the log names the tensor where the two graphs part"
    )


def lower(
    top: TopGraph, chip: str, mode: str, folder: Path, table: Path | None = None, qtable: Path | None = None
) -> Path:
    """Lower the top graph for a chip: <folder>/net_<chip>_<mode>_tpu.mlir, its weights beside it.

    mode: F32, F16, BF16 or INT8. table: calibration table (INT8). qtable: layers with another mode.
    The same passes as model_deploy's first step, without its start-up and comparison: for a search over many.
    """
    from tpu_mlir.python.utils.mlir_shell import lowering_options  # starts in half a second: only where it is needed

    name = f"{NAME}_{chip}_{mode.lower()}_tpu"
    place(top, folder)
    options = lowering_options(
        mode,
        chip,
        cali_table=str(table) if table else None,
        quantize_table=str(qtable) if qtable else None,
        weight_name=f"{name}_weights.npz",
    )
    # The vendor writes these for a shell; here every option is one argument, its inner quotes gone.
    arguments = [TOP, *(option.replace('"', "") for option in options), "-o", f"{name}.mlir"]
    run_tool("tpuc-opt", arguments, folder, [f"{name}.mlir", f"{name}_weights.npz"])
    return folder / f"{name}.mlir"


@dataclass(frozen=True)
class Deployed:
    """What deploy() made. outputs_*: of the top graph's sample, .npz."""

    bmodel: Path
    graph: Path  # the quantised graph, its weights beside it
    outputs_of_graph: Path
    outputs_of_bmodel: Path
    graph_against_float: dict[str, Any]
    bmodel_against_graph: dict[str, Any]
    seconds: float


def deploy(
    top: TopGraph,
    chip: str,
    mode: str,
    folder: Path,
    table: Path | None = None,
    qtable: Path | None = None,
    written: Callable[[Path, Path], None] | None = None,
) -> Deployed:
    """Compile the top graph to <folder>/net.bmodel with the vendor's comparison of every stage.

    table, qtable: as for lower(). written: called with the BModel and the quantised graph as soon as both are there;
    the vendor's simulator computes meanwhile, on one core, for its comparison of the two.

    Raises VendorError when model_deploy fails, when the quantised graph differs from float although the mode is F32, or
    when the BModel differs from the quantised graph.
    """
    place(top, folder)
    arguments = ["--mlir", TOP, "--quantize", mode, "--processor", chip]
    for option, path in (("--calibration_table", table), ("--quantize_table", qtable)):
        if path:
            link(path, folder / option.strip("-"))
            arguments += [option, option.strip("-")]
    arguments += ["--test_input", SAMPLE, "--test_reference", REFERENCE]
    arguments.append(f"--tolerance={QUANTISED_TOLERANCE.get(mode, ANY_SIMILARITY)}")
    prefix = f"{NAME}_{chip}_{mode.lower()}" + ("_sym" if mode == "INT8" else "")
    names = [f"{NAME}.bmodel", f"{prefix}_tpu.mlir", f"{prefix}_tpu_outputs.npz", f"{prefix}_model_outputs.npz"]
    # --cache_skip keeps the outputs that were compared. --debug would keep the quantised graph's weights, too, but puts
    # half as much again into the BModel; making that graph once more takes a second.
    arguments += ["--cache_skip", "--model", names[0]]

    def graph_with_weights() -> Path:
        # In a folder of its own: for all modes but INT8 it has the name of the graph that it is compared with.
        (folder / "lowered").mkdir(exist_ok=True)
        return lower(top, chip, mode, folder / "lowered", table, qtable)

    def watch(line: str) -> None:
        """Look out for the line of model_deploy's output that says that the BModel is there."""
        if written and line.startswith("[Success]: tpuc-opt") and "--codegen=" in line:
            graphs.append(graph_with_weights())
            written(folder / names[0], graphs[-1])

    graphs: list[Path] = []
    done = run_tool("model_deploy", arguments, folder, names, watch=watch)
    if mode_left_out(folder / names[0]):
        # Once more, with new memory that is never 0 (glibc, mallopt(3)): it takes twice the time, so not always.
        done = run_tool("model_deploy", arguments, folder, names, "", {"MALLOC_PERTURB_": "165"}, watch)
    compared = comparisons(done.output)
    if len(compared) != 2:
        raise VendorError(
            f"model_deploy made {len(compared)} of the two comparisons of its stages", "see its output in the log"
        )
    files = [folder / name for name in names]
    files[1] = _with_weights(files[1], graphs[-1] if graphs else graph_with_weights())
    return Deployed(*files, compared[0].record(), compared[1].record(), done.seconds)


def _with_weights(deployed: Path, lowered: Path) -> Path:
    """`lowered`, shown to be the graph that model_deploy compiled, whose weights it removed."""
    texts = [re.sub(r'weight_file = "[^"]*"', "", path.read_text(encoding="utf-8")) for path in (deployed, lowered)]
    if texts[0] != texts[1]:
        raise VendorError(
            f"{deployed.name}, which model_deploy compiled, is not the graph that the same passes give again",
            "compile again; if it happens again, this TPU-MLIR is not the pinned one",
        )
    return lowered


def place(top: TopGraph, folder: Path) -> None:
    """Have the top graph's files in `folder`, too, as links."""
    for path in top.files:
        link(path, folder / path.name)


def link(path: Path, target: Path) -> None:
    """A symbolic link at `target` to `path`; nothing when they are one file already."""
    if target.exists() and target.samefile(path):
        return
    target.unlink(missing_ok=True)
    os.symlink(path.resolve(), target)
