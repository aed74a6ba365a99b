"""Run the artifact of a job folder on the board itself.

    python device.py JOB

The same runtime and the same loop as infer.py, which is all that ncnn needs: `pip install -r requirements.txt` on the
board, copy this folder and the job folder. Writes outputs.npz and device.json.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from failure import run
from infer import Artifact
from inference_loop import main_of
from job_file import Job
from network_runner import THREADS

BOARD = Path("/sys/firmware/devicetree/base/model")  # Linux on a board says here what it is


def board_name() -> str:
    """The board in words; where the kernel does not tell, the kind of processor."""
    try:
        name = BOARD.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        name = ""
    return name or platform.machine()


class OnBoard(Artifact):
    """The artifact on the chip's own CPU, in float32 as the proof was made."""

    simulated = False

    def __init__(self, job: Job, compiled: dict[str, Any]):
        super().__init__(job, compiled)
        self.device = f"ncnn {importlib.metadata.version('ncnn')} on {board_name()}, {THREADS} threads"


if __name__ == "__main__":
    run(main_of(OnBoard, "device.json", "device"))
