"""Run the artifact of a job folder on the board, on the NPU, through rknnlite.

    python device.py JOB [SAMPLES.npz OUTPUTS.npz]        on the board, with rknn-toolkit-lite2 and numpy, tqdm

Needs only this folder and the job folder. Writes the outputs (float32 [N, ...] under the ONNX names) and, for the
job's own samples, device.json with the latency and the versions. Tested against a double of the documented API only
(RKNN-Toolkit-Lite2 user guide; the calls and return codes are those of rknn-toolkit-lite2/examples in Rockchip's
repository airockchip/rknn-toolkit2).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job
from rknn_file import check_target

COMPATIBLE = Path("/proc/device-tree/compatible")  # names, separated by zero bytes: rockchip,rk3588
CORES = {"rk3588": "NPU_CORE_0_1_2", "rk3576": "NPU_CORE_0_1"}  # the others have one core, and take no mask
INSTALL = "on the board: pip install rknn-toolkit-lite2 (the wheel of your Python, of the toolkit's version)"
MEND = "see the runtime's own message above; librknnrt.so has to be of the toolkit's version, and rknpu loaded"


def board_chip(path: Path = COMPATIBLE) -> str | None:
    """The chip of this board as the device tree names it ("rk3588"); None where there is no device tree."""
    try:
        names = path.read_bytes().decode("ascii", errors="replace").split("\0")
    except OSError:
        return None
    found = [name.partition(",")[2] for name in names if name.startswith("rockchip,rk")]
    return found[-1][:6] if found else None


class OnBoard:
    """The artifact on the NPU."""

    simulated = False
    timed = True
    warm_up = 5  # the NPU's clock rises under load

    def __init__(self, job: Job, compiled: dict[str, Any]):
        try:
            from rknnlite.api import RKNNLite
        except ImportError as error:
            raise VendorError(f"rknnlite cannot be imported: {error}", INSTALL) from None
        artifact = job.folder / compiled["artifact"][0]
        described = check_target(artifact, job.chip)
        chip = board_chip()
        if chip is not None and chip != job.chip:
            raise VendorError(f"this board has a {chip}, and {artifact} is for {job.chip}", f"make {chip} ...")
        self._job = job
        self._names = [name for name, _shape in described.outputs]
        self._runtime = RKNNLite(verbose=False)
        if self._runtime.load_rknn(str(artifact)) != 0:
            raise VendorError(f"rknnlite refuses {artifact}", MEND)
        mask = CORES.get(job.chip)
        cores = {"core_mask": getattr(RKNNLite, mask)} if mask else {}
        if self._runtime.init_runtime(**cores) != 0:
            raise VendorError(f"the NPU's runtime cannot start {artifact}", MEND)
        version = str(self._runtime.get_sdk_version() or "unknown").strip()
        print(f"runtime: {version}; artifact: RKNN-Toolkit2 {described.version}", file=sys.stderr)
        self.device = f"{job.chip} NPU, {mask or 'its one core'}; runtime {' '.join(version.split())}"

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        # The runtime takes NHWC by default; saying nchw instead is newer than some runtimes in the field.
        ordered = [np.ascontiguousarray(inputs[one.name].transpose(0, 2, 3, 1)) for one in self._job.inputs]
        outputs = self._runtime.inference(inputs=ordered)
        if outputs is None or len(outputs) != len(self._names):
            given = "nothing" if outputs is None else f"{len(outputs)} outputs"
            raise VendorError(f"the NPU's runtime returned {given}, not {len(self._names)} outputs", MEND)
        return {name: np.asarray(array, np.float32) for name, array in zip(self._names, outputs, strict=True)}


if __name__ == "__main__":
    run(main_of(OnBoard, "device.json", "device"))
