"""RKNN-Toolkit2 in a process of its own, always started in the same way: the same commands give the same bytes.

The toolkit copies uninitialised memory into the .rknn (a few hundred bytes: pointers, padding). So its process starts
with addresses that are not randomised, hashes that are not seeded, a small fixed environment and a working folder whose
path is always of one length; then that memory is the same each time, too. On another machine, or where the system
forbids fixed addresses (a container with a strict seccomp profile), those bytes differ, and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError

CHILD = Path(__file__).with_name("toolkit_child.py")
LOG = "toolkit.log"
TAIL_LINES = 12
ADDRESSES_FIXED = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LIBC = ctypes.CDLL(None)


class Toolkit:
    """One process of the toolkit and its working folder; use it in a `with`."""

    def __init__(self, log: Path):
        """log: where all that the toolkit prints goes; appended to."""
        self.log = log
        self.folder = Path(tempfile.mkdtemp(prefix="rknn-"))
        self._started: dict[str, Any] | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Toolkit:
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": "/tmp",
            "PYTHONHASHSEED": "0",
            "MALLOC_PERTURB_": "255",  # what is allocated begins as zeros: also the bytes that the toolkit never fills
            "PYTHONDONTWRITEBYTECODE": "1",
            "TQDM_DISABLE": "1",
            **{key: value for key, value in os.environ.items() if key == "LD_LIBRARY_PATH"},
        }
        try:
            # Not from this folder: Python remembers what lies in its script's folder, and so where its memory ends.
            script = shutil.copy(CHILD, self.folder)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-X", "utf8", Path(script).name],
                    cwd=self.folder,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    preexec_fn=lambda: _LIBC.personality(ADDRESSES_FIXED),  # refused: see the head of this file
                )
            # It takes two seconds to start; the answer is waited for at the first command.
            self._ask("start")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def put(self, source: Path, name: str) -> str:
        """Give a file of the job this name in the working folder, in place of another that had it."""
        (self.folder / name).unlink(missing_ok=True)
        os.symlink(source.resolve(), self.folder / name)
        return name

    @property
    def addresses_fixed(self) -> bool:
        """Whether the process runs with addresses that are always the same; see the head of this file."""
        self._wait_for_start()
        assert self._started is not None
        return self._started["addresses_fixed"]

    def call(self, command: str, **ask: Any) -> dict[str, Any]:
        """Have the child do a command of toolkit_child.py. Raises VendorError when the toolkit refuses or dies."""
        self._wait_for_start()
        self._ask(command, **ask)
        return self._answer(command)

    def _wait_for_start(self) -> None:
        if self._started is None:
            self._started = self._answer("start")

    def _ask(self, command: str, **ask: Any) -> None:
        process = self._process
        assert process is not None and process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: the missing answer tells
            process.stdin.write(json.dumps({"do": command, **ask}) + "\n")
            process.stdin.flush()

    def _answer(self, command: str) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            raise self._died(command, process.wait())
        answer = json.loads(line)
        if not answer["ok"]:
            raise VendorError(
                f"RKNN-Toolkit2's {answer['call']} failed: {COLOUR.sub('', answer['problem'])}",
                f"its own messages stand in {self.log}; operators.yaml lists what it takes",
            )
        return answer

    def _died(self, command: str, code: int) -> VendorError:
        self._show_tail()
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"left with exit code {code}"
        hint = f"its own messages stand in {self.log}; run the same command again"
        if code == -signal.SIGKILL:
            hint = "SIGKILL is often a lack of memory: close other programs, or compile on a larger machine"
        return VendorError(f"RKNN-Toolkit2 {how} during {command}", hint)

    def _show_tail(self) -> None:
        """The end of what the toolkit said, for whoever reads this script's own log."""
        lines = COLOUR.sub("", self.log.read_text(encoding="utf-8", errors="replace")).splitlines()
        for line in [line for line in lines if line.strip() and "Traceback" not in line][-TAIL_LINES:]:
            print(f" | {line}", file=sys.stderr)

    def simulate(self, inputs: dict[str, np.ndarray], batch: int, first: bool = True) -> list[np.ndarray]:
        """Run the built network: float32 [N, ...] by input name, in the network's order, N a multiple of the batch;
        gives its outputs, float32 [N, ...]. first: whether the runtime has to be made ready."""
        source, target = self.folder / "samples.npz", self.folder / "outputs.npz"
        target.unlink(missing_ok=True)
        np.savez(source, **inputs)
        self.call("simulate", samples=source.name, outputs=target.name, inputs=list(inputs), batch=batch, first=first)
        try:
            with np.load(target, allow_pickle=False) as archive:
                return [archive[name] for name in archive.files]
        except (OSError, ValueError) as error:
            raise VendorError(f"RKNN-Toolkit2's simulator left no outputs ({error})", f"see {self.log}") from None
