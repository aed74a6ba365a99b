"""What an artifact is made from, as one hash; and whether another engine made the same of it."""

from __future__ import annotations

import hashlib
from typing import Any

from common.basics.files import sha256_file, to_json
from common.engines import engine
from common.job import Cell, option_files
from common.plan import DOUBLES


def made_from(cell: Cell, job: dict[str, Any]) -> str:
    """The SHA-256 of all that an artifact is made from: job.json, the graph, the calibration tensors, the vendor's
    scripts, and the pinned packages of its environment or the image of its container."""
    return digest_of(cell, job, engine.toolchain_identity(cell))


def digest_of(cell: Cell, job: dict[str, Any], toolchain: str = "") -> str:
    """The same, of what compiles it given by a name; without one, of the inputs alone."""
    digest = hashlib.sha256((to_json(job) + toolchain).encode())
    files = [cell.folder / job["graph"]]
    if job["calibration"]:
        files += sorted((cell.folder / job["calibration"]).glob("*.npy"))
    vendor = cell.chip_spec.folder
    files += [cell.folder / job["options"][name] for name in option_files(cell)]
    if cell.double:
        stand_in = [*DOUBLES.glob("*.py"), *(DOUBLES / vendor.name).rglob("*")]
        files += sorted(path for path in stand_in if path.is_file() and path.suffix != ".pyc")
    for path in [*files, *sorted(vendor.glob("*.py")), *sorted(vendor.glob("requirements*.txt"))]:
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def other_engine(record: dict[str, Any], earlier: dict[str, Any], inputs: str) -> dict[str, Any]:
    """Where another engine compiled the very same inputs before: whether the artifact is the same, and if not, why.

    Returns what compile.json tells of it: {"other_engine": {"engine", "sha256", "same"}}, and a warning if it differs.
    """
    if earlier.get("inputs") != inputs:
        return {}
    other = earlier if earlier.get("engine") != record["engine"] else earlier.get("other_engine")
    if not other or other.get("engine") in (None, record["engine"]):
        return {}
    same = other["sha256"] == record["sha256"]
    told = {"other_engine": {"engine": other["engine"], "sha256": other["sha256"], "same": same}}
    if same:
        return told
    tools, others = record["tools"], other.get("tools") or record["tools"]
    versions = [
        f"{name} {others.get(name)} and {version}" for name, version in tools.items() if others.get(name) != version
    ]
    why = (
        ", ".join(versions)
        or "the same versions, so the compiler itself does not repeat its bytes from one to the other"
    )
    warning = f"another artifact than that of {other['engine']} from the same inputs: {why}"
    return told | {"warnings": [*record.get("warnings", []), warning]}
