"""compile.json: what was compiled, from what, and how to tell that the files are still those.

This file is the same in every vendor folder, so that each folder can be taken away alone.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomic_files import read_json, sha256_of, write_json
from failure import VendorError
from job_file import Job

RECORD = "compile.json"
COMPILE_AGAIN = "compile again: python compile.py JOB"


def remove_results(job: Job) -> None:
    """Remove compile.json and every file that it lists: an older artifact must not survive a failing compilation and
    be taken for its result."""
    path = job.folder / RECORD
    if not path.exists():
        return
    try:
        names = read_json(path, "").get("files", {})
    except (VendorError, AttributeError):
        names = {}
    path.unlink()
    for name in names:
        if Path(name).name == name:  # a damaged record must not lead out of the job folder
            (job.folder / name).unlink(missing_ok=True)


def peak_memory_bytes() -> int:
    """Bytes of resident memory that the largest process had at its peak: this one, or any that it has waited for.

    Not the sum of those that ran at once; and of children only those that ended. Linux hands getrusage's peak on from
    the process that starts another (ru_maxrss of a child is at least what its parent held then): so this process asks
    for its own (proc(5), VmHWM), and what its children have of it counts for nothing more than itself.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        own = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no Linux, or one that does not tell
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children)


def finish(
    job: Job,
    artifact: Sequence[Path],
    side_files: Sequence[Path],
    started: float,
    tools: dict[str, str],
    quantization: dict[str, Any] | None = None,
    estimate: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
    checks: Sequence[str] = (),
    **more: Any,
) -> None:
    """Move the finished files from a scratch folder into the job folder and write compile.json, last.

    artifact: what an application loads, in the order of its fingerprint. side_files: what is kept beside it.
    started: time.monotonic() at the start. tools: name and version. estimate: the vendor's own, of speed and the like.
    warnings: what a user has to know. checks: what was shown of the artifact, in words, where nothing can simulate it.
    A failure on the way leaves none of the files.
    """
    moved: list[Path] = []
    try:
        for path in (*artifact, *side_files):
            if not path.is_file() or path.stat().st_size == 0:
                raise VendorError(f"{path.name} was not written, or is empty", COMPILE_AGAIN)
            moved.append(job.folder / path.name)
            shutil.move(path, moved[-1])
        own = moved[: len(artifact)]
        record = {
            "artifact": [path.name for path in own],
            "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of([path])} for path in moved},
            "artifact_bytes": sum(path.stat().st_size for path in own),
            "sha256": sha256_of(own),
            "seconds": round(time.monotonic() - started, 2),
            "peak_memory_bytes": peak_memory_bytes(),
            "tools": tools,
            "chip": job.chip,
            "precision": job.precision,
            "batch": job.batch,
            "quantization": quantization,
            "estimate": estimate,
            "warnings": list(warnings),
            "checks": list(checks),
            "double": job.double,
        }
        write_json(job.folder / RECORD, record | more)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def check_artifact(job: Job) -> dict[str, Any]:
    """The content of compile.json. VendorError unless every file that it lists is, byte for byte, what it describes,
    and is for the job's own chip, precision and batch."""
    path = job.folder / RECORD
    compiled = read_json(path, "compile first: python compile.py JOB")
    if not isinstance(compiled, dict) or not isinstance(compiled.get("files"), dict) or not compiled.get("artifact"):
        raise VendorError(f"{path} names no files", COMPILE_AGAIN)
    described = {"double": False} | compiled  # only newer records tell of stand-ins
    for key in ("chip", "precision", "batch", "double"):
        if described.get(key) != getattr(job, key):
            raise VendorError(
                f"{path} is for {key} {described.get(key)}, and job.json for {getattr(job, key)}", COMPILE_AGAIN
            )
    for name, expected in compiled["files"].items():
        file = job.folder / name
        if not file.is_file():
            raise VendorError(f"{file} is missing", COMPILE_AGAIN)
        if file.stat().st_size != expected["bytes"]:
            size = f"{file.stat().st_size} bytes, not {expected['bytes']}"
            raise VendorError(f"{file} is truncated or not the compiled one: {size}", COMPILE_AGAIN)
        if sha256_of([file]) != expected["sha256"]:
            raise VendorError(f"{file} is not the compiled one: its sha256 differs from {path}", COMPILE_AGAIN)
    return compiled


def cache_folder(job: Job, paths: Sequence[Path], *words: object) -> Path:
    """job/cache/<key>/: intermediate files for later rungs of the same network and the same calibration tensors.

    The key is the content of `paths` (a folder counts with its .npy files) and the words (versions, say). Folders of
    other keys are removed. Whoever writes into it writes under a temporary name and renames.
    """
    digest = hashlib.sha256(repr(words).encode())
    for path in paths:
        files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
        digest.update(f"{len(files)} {sha256_of(files)}".encode())
    folder = job.folder / "cache" / digest.hexdigest()[:16]
    for other in folder.parent.glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
