"""`make eval`: a network over a whole image set by the protocol of its authors, in pieces that are never done twice.

python -m common.full_evaluation --model NAME --chip float|CHIP --variant VARIANT --eval FOLDER [--boxes gt|detections]
    [--flip 1] [--shard 3/16] [--limit 500] [--scales 0.5,1,2]

The network must have been built. CHIP=float runs out/<model>/float/model.onnx in onnxruntime, a chip its artifact in
the vendor's simulator. Results: <the network's folder>/eval/<what was asked>/, see common/evaluation/chunks.py.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import sha256_file
from common.basics.progress import Progress
from common.datasets.imageset import ImageSet
from common.datasets.set_layout import find_layout
from common.declarations.asked import positive_number
from common.decoding.predictions import Predictions
from common.evaluation.chunks import METRICS, RESULTS, Chunks
from common.evaluation.evaluated_network import EvaluatedNetwork, find_network
from common.evaluation.evaluation_result import print_result, write_result
from common.evaluation.streaming import AHEAD, Method, stream
from common.samples import input_bytes
from common.tasks import Task

REQUEST_VERSION = 1
CHUNK_BYTES = 64_000_000  # of network inputs in a piece: some minutes of work, and what a chip's step gets at once
BATCH_BYTES = 8_000_000  # of network inputs that travel together through the float network's pipeline


@dataclass(frozen=True)
class Asked:
    """What make's variables say; None where one is not set. shard: (3, 16) for 3/16."""

    folder: Path
    boxes: str | None = None
    flip: bool = False
    shard: tuple[int, int] | None = None
    limit: int | None = None
    scales: tuple[float, ...] | None = None


def evaluate(network: EvaluatedNetwork, asked: Asked) -> Path | None:
    """Do the missing pieces of what was asked (of the shard), merge when all are there, and print the result.

    Returns the results' folder; None while pieces of other shards are missing. Raises UserError.
    """
    image_set = ImageSet.open(asked.folder, whole=False)
    if asked.limit:
        image_set = image_set.first(asked.limit)
    task = network.task
    boxes = asked.boxes or default_boxes(task, image_set)
    instances = task.instances(image_set, boxes)
    method = network.method(asked.flip, asked.scales)
    request = {
        "version": REQUEST_VERSION,
        "network": network.identity(),
        "spec": task.spec.model_dump(mode="json"),
        "set": {"name": set_name(image_set), "fingerprint": set_fingerprint(asked.folder)},
        "boxes": boxes,
        "flip": asked.flip,
        "limit": asked.limit,
        "scales": list(asked.scales) if asked.scales else None,
        "method": type(method).__name__,
    }
    size = max(1, int(CHUNK_BYTES // (input_bytes(task.spec) * method.share)))
    chunks = Chunks(network.folder / "eval" / request_name(request), request, len(instances), size)
    if chunks.changed:
        print(f"eval: {', '.join(chunks.changed)} changed since the last run: beginning anew")
    began = time.monotonic()
    done = run_chunks(network, chunks, chunks.missing(asked.shard or (1, 1)), method, image_set, instances, task.unit)
    seconds = time.monotonic() - began
    if missing := len(chunks.missing()):
        print(f"eval: {chunks.count - missing} of {chunks.count} pieces are done; {missing} are other shards'")
        print("the last shard to end merges them, and so does the same make without SHARD")
        return None
    found = chunks.merge()
    words = {"shown": method.text} if method.text else {}
    protocol = task.protocol(image_set, instances, boxes, asked.flip, **words)
    protocol += f"; {network.note}" if network.note else ""
    with Progress("eval, metric"):
        write_result(chunks.folder, network.title, task, image_set, instances, found, protocol)
    print_result(chunks.folder)
    speed = "all of it was done before"
    if done:
        speed = f"{done} {task.unit} in {seconds:.1f} s, {done / seconds:.2f} a second"
    print(f"{speed}; {chunks.folder / METRICS}, {RESULTS}")
    return chunks.folder


def run_chunks(
    network: EvaluatedNetwork, chunks: Chunks, wanted: list[int], method: Method, image_set: ImageSet, instances: Any,
    unit: str,
) -> int:  # fmt: skip
    """Run the wanted pieces and keep each as soon as it is complete; returns how many instances that were."""
    batch = max(1, int(BATCH_BYTES // (input_bytes(network.task.spec) * method.share)))
    if network.whole_chunks:
        batch = chunks.size
    batches = [
        range(start, min(start + batch, chunks.span(index).stop))
        for index in wanted
        for start in range(chunks.span(index).start, chunks.span(index).stop, batch)
    ]
    todo = sum(len(batch) for batch in batches)
    progress = Progress("eval", chunks.instances, chunks.instances - todo_of(chunks), unit)
    parts: list[Predictions] = []
    ahead = 2 if network.whole_chunks else AHEAD  # a whole piece is much to hold
    try:
        for span, found in stream(image_set, instances, batches, method, network.run, ahead) if batches else ():
            index = span.start // chunks.size
            parts.append(found.shifted(span.start - chunks.span(index).start))
            if span.stop == chunks.span(index).stop:
                chunks.write(index, parts)
                parts = []
            progress.advance(len(span))
    except KeyboardInterrupt:
        progress.close()
        kept = chunks.count - len(chunks.missing())
        print(f"\neval: {kept} of {chunks.count} pieces are kept in {chunks.folder}", file=sys.stderr)
        raise
    finally:
        progress.close()
    return todo


def todo_of(chunks: Chunks) -> int:
    """How many instances are in pieces that nobody has finished yet."""
    return sum(len(chunks.span(index)) for index in chunks.missing())


def default_boxes(task: Task, image_set: ImageSet) -> str:
    """For a top-down network annotated people, else all detections; whole images need no boxes."""
    if task.spec.task != "topdown_pose":
        return "auto"
    return image_set.box_source or "gt"


def set_name(image_set: ImageSet) -> str:
    """What people call the set: val2017 for COCO's folder, else the folder's own name."""
    folder = image_set.image_folder if image_set.annotations else image_set.folder
    return folder.resolve().name


def set_fingerprint(folder: Path) -> str:
    """The same on every machine that has the same set, so that shards fit together: names and sizes of all files and
    the content of the annotations, but no times, which a copy does not keep."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\n".encode())
    layout = find_layout(folder)
    for path in filter(None, (layout.keypoints, layout.detections, *(layout.mpii or ()))):
        digest.update(sha256_file(path).encode())
    return digest.hexdigest()[:16]


def request_name(request: dict[str, Any]) -> str:
    """The folder's name says what was asked: val2017-detections-flip-first500."""
    words = [
        request["set"]["name"],
        "" if request["boxes"] == "auto" else request["boxes"],
        "flip" if request["flip"] else "",
        f"scales{'_'.join(f'{scale:g}' for scale in request['scales'])}" if request["scales"] else "",
        f"first{request['limit']}" if request["limit"] else "",
    ]
    return re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(word for word in words if word))


def parse_shard(text: str) -> tuple[int, int] | None:
    """SHARD=3/16 -> (3, 16). Raises UserError (exit 2) for anything else."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"SHARD={text} is not one of so many parts", "SHARD=1/4, 2/4, 3/4 and 4/4", USAGE_EXIT)
    return int(match[1]), int(match[2])


def parse_scales(text: str) -> tuple[float, ...] | None:
    """SCALES=0.5,1,2 -> (0.5, 1.0, 2.0). Raises UserError (exit 2) for anything else."""
    if not text:
        return None
    try:
        scales = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= 4 for scale in scales):
        raise UserError(f"SCALES={text} are no scales", "SCALES=0.5,1,2", USAGE_EXIT)
    return scales


def parse_choice(text: str, variable: str, choices: tuple[str, ...]) -> str | None:
    """One of the choices, or None for an unset variable. Raises UserError (exit 2) for anything else."""
    if text and text not in choices:
        raise UserError(f"{variable}={text} is unknown", f"{variable}={' or '.join(choices)}", USAGE_EXIT)
    return text or None


def main() -> None:
    """See the head of this file; called by `make eval`, which passes every variable, set or not."""
    parser = argparse.ArgumentParser(description="evaluate a built network over a whole image set")
    for name in ("model", "spec", "size", "chip", "variant", "boxes", "flip", "shard", "limit", "scales"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--eval", required=True)
    arguments = parser.parse_args()
    asked = Asked(
        Path(arguments.eval),
        parse_choice(arguments.boxes, "BOXES", ("gt", "detections")),
        parse_choice(arguments.flip, "FLIP", ("0", "1")) == "1",
        parse_shard(arguments.shard),
        positive_number(arguments.limit, "LIMIT"),
        parse_scales(arguments.scales),
    )
    network = find_network(arguments.model, arguments.spec, arguments.size, arguments.chip, arguments.variant)
    evaluate(network, asked)


if __name__ == "__main__":
    run(main)
