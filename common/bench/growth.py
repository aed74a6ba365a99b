"""One whole evaluation in a process of its own, so that its peak memory is its own.

python -m common common.bench.growth REFERENCE SET COUNT

The float network on the first COUNT images; prints JSON last.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run
from common.basics.files import read_json
from common.evaluation.evaluated_network import FloatNetwork
from common.full_evaluation import Asked, evaluate
from common.job import FloatReference


def measure_growth(reference: Path, image_set: Path, counts: list[int]) -> list[dict[str, Any]]:
    """For each number of images: {"images", "people", "seconds", "peak_bytes"}, the start of the process not counted.

    Raises UserError with the process's own message when it fails.
    """
    found = []
    for count in counts:
        command = [sys.executable, "-m", "common", "common.bench.growth", str(reference), str(image_set), str(count)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            raise UserError(
                f"the evaluation of {count} images failed: {process.stderr.strip()}", "make eval shows more"
            )
        found.append(json.loads(process.stdout.splitlines()[-1]))
    return found


def peak_bytes(status: Path = Path("/proc/self/status")) -> int:
    """The largest resident memory of this process. Not getrusage's where Linux tells its own: a process inherits its
    parent's peak there, which in a bench is the larger one (proc(5), VmHWM; getrusage(2), ru_maxrss)."""
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """See the head of this file."""
    reference, image_set, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    shutil.rmtree(reference / "eval", ignore_errors=True)
    network = FloatNetwork(FloatReference(reference))
    begun = time.perf_counter()
    folder = evaluate(network, Asked(image_set, limit=count))
    seconds = time.perf_counter() - begun
    peak = peak_bytes()
    content = read_json(folder / "metrics.json")
    measured = {"images": content["images"], "people": content["instances"], "seconds": seconds, "peak_bytes": peak}
    print(json.dumps(measured))


if __name__ == "__main__":
    run(main)
