"""The only process that imports RKNN-Toolkit2: takes commands from toolkit.py, so that a crash becomes an answer.

    python toolkit_child.py        started by toolkit.py, in a folder of its own

One JSON object a line on standard input, one on standard output; all that the toolkit prints goes to standard error.
{"do": "name of a command", ...} is answered by {"ok": true, ...} or {"ok": false, "call": ..., "problem": ...}. Files
are named relative to the working folder: the toolkit writes the paths that it is given into its own files.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What comes out must not hang on how fast the machine is: tqdm allocates memory whenever it redraws its bar, and the
# toolkit leaves uninitialised memory in the .rknn. Read at import, and so before anything else.
os.environ["TQDM_DISABLE"] = "1"

MESSAGE_LETTERS = 400
ADDRESSES_FIXED = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)


class RefusedError(Exception):
    """A call of the toolkit that failed: `call` is its name."""

    def __init__(self, call: str, problem: str):
        super().__init__(problem)
        self.call = call


def told_by(error: Exception) -> str:
    """What the toolkit says in words: its exceptions carry the tracebacks of those before them in their text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if re.match(r"\w*(Error|Exception): ", line)]
    told = " ".join(lines[starts[-1] :] if starts else lines[-1:])
    return told[:MESSAGE_LETTERS] or type(error).__name__


class Commands:
    """What the parent can ask for; keeps the toolkit's object between commands."""

    def __init__(self) -> None:
        self.rknn: Any = None

    def _new(self) -> Any:
        from rknn.api import RKNN

        if self.rknn is not None:
            self.rknn.release()
        self.rknn = RKNN(verbose=False)
        return self.rknn

    def _call(self, name: str, *arguments: Any, **options: Any) -> None:
        """Call a function of the toolkit that answers 0. Some raise, some exit the process, some only return -1."""
        try:
            code = getattr(self.rknn, name)(*arguments, **options)
        except SystemExit as left:
            raise RefusedError(name, f"it left the process with exit({left.code})") from None
        except Exception as error:
            traceback.print_exc()
            raise RefusedError(name, told_by(error)) from None
        if code != 0:
            raise RefusedError(name, f"it returned {code}")

    def _configure(self, ask: dict[str, Any]) -> None:
        # No mean and no std: what the network is fed is normalised already, as the calibration tensors are.
        self._new()
        self._call(
            "config",
            target_platform=ask["target"],
            quantized_algorithm=ask["algorithm"],
            quantized_method="channel",
            optimization_level=3,
        )
        self._call("load_onnx", model=ask["graph"])

    def start(self, _ask: dict[str, Any]) -> dict[str, Any]:
        """Import the toolkit."""
        import ctypes

        from rknn.api import RKNN  # noqa: F401

        fixed = ctypes.CDLL(None).personality(0xFFFFFFFF) & ADDRESSES_FIXED
        return {"addresses_fixed": bool(fixed)}

    def calibrate(self, ask: dict[str, Any]) -> dict[str, Any]:
        """hybrid_quantization_step1: <graph>.model, .data and .quantization.cfg in the working folder."""
        self._configure(ask)
        self._call("hybrid_quantization_step1", dataset=ask["dataset"])
        return {}

    def build(self, ask: dict[str, Any]) -> dict[str, Any]:
        """build: without quantisation, or the plain one. Leaves the built network for export and simulate."""
        self._configure(ask)
        if ask["dataset"] is None:
            self._call("build", do_quantization=False)
        else:
            self._call("build", do_quantization=True, dataset=ask["dataset"])
        return {}

    def build_mixed(self, ask: dict[str, Any]) -> dict[str, Any]:
        """hybrid_quantization_step2 on calibrate's files. Leaves the built network for export and simulate."""
        self._new()
        self._call(
            "hybrid_quantization_step2",
            model_input=ask["model"],
            data_input=ask["data"],
            model_quantization_cfg=ask["configuration"],
        )
        return {}

    def export(self, ask: dict[str, Any]) -> dict[str, Any]:
        self._call("export_rknn", ask["file"])
        return {}

    def simulate(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Run the built network in the simulator: .npz of [N, ...] for each input in, outputs 0, 1, ... out.

        inputs: the names in the network's order; batch: how many samples one inference takes.
        """
        import numpy as np

        if ask.get("first", True):
            self._call("init_runtime")
        with np.load(ask["samples"], allow_pickle=False) as archive:
            samples = [archive[name] for name in ask["inputs"]]
        rows = []
        for start in range(0, len(samples[0]), ask["batch"]):
            batch = [array[start : start + ask["batch"]] for array in samples]
            try:
                found = self.rknn.inference(inputs=batch, data_format=["nchw"] * len(batch))
            except SystemExit as left:
                raise RefusedError("inference", f"it left the process with exit({left.code})") from None
            except Exception as error:
                traceback.print_exc()
                raise RefusedError(
                    "inference", str(error).strip().splitlines()[-1] if str(error) else "it failed"
                ) from None
            if not found:
                raise RefusedError("inference", "it returned nothing")
            rows.append([np.asarray(array, np.float32) for array in found])
        outputs = {str(index): np.concatenate(column) for index, column in enumerate(zip(*rows, strict=True))}
        np.savez(ask["outputs"], **outputs)
        return {}

    def analyse(self, ask: dict[str, Any]) -> dict[str, Any]:
        """accuracy_analysis: what every layer gives in float and in the simulator, as text files in `folder`."""
        self._call("accuracy_analysis", inputs=ask["inputs"], output_dir=ask["folder"])
        return {}


def answer(commands: Commands, line: str) -> dict[str, Any]:
    """Do one command; a failure is an answer as well."""
    ask = json.loads(line)
    try:
        command: Callable[[dict[str, Any]], dict[str, Any]] = getattr(commands, ask["do"])
        return {"ok": True, **command(ask)}
    except RefusedError as refused:
        return {"ok": False, "call": refused.call, "problem": str(refused)}
    except MemoryError:
        return {"ok": False, "call": ask["do"], "problem": "out of memory"}
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "call": ask["do"], "problem": f"{type(error).__name__}: {error}"}


def main() -> None:
    # The toolkit prints to standard output from Python and from C: the answers get a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The working folder, which python puts first on its path, holds data: nothing is to be imported from it.
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path.cwd()]
    commands = Commands()
    for line in sys.stdin:
        print(json.dumps(answer(commands, line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
