"""Load an ncnn model and run one sample, in a process of its own: a crash of ncnn becomes an answer.

    python check_model.py MODEL.param MODEL.bin SAMPLE.npz ANSWER.json NUMBER_OF_OUTPUTS

SAMPLE.npz: in0, in1, ... float32 [1, C, H, W]. ANSWER.json: {"shapes": [[...], ...], "finite": [true, ...]} of
out0, out1, ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from failure import run
from network_runner import Runner


def main(arguments: list[str]) -> None:
    param, weights, sample, answer = (Path(argument) for argument in arguments[:4])
    with np.load(sample, allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files}
    found = Runner(param, weights).run(inputs, [f"out{index}" for index in range(int(arguments[4]))])
    shapes = [list(array.shape) for array in found]
    answer.write_text(json.dumps({"shapes": shapes, "finite": [bool(np.isfinite(array).all()) for array in found]}))


if __name__ == "__main__":
    sys.stderr.reconfigure(line_buffering=True)
    run(main)
