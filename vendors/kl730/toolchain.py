"""Kneron's toolchain in a process of its own, in a working folder of its own.

What it prints goes to a log, its crash becomes a message, and when it is about to take all of the machine's memory it
is stopped with all the processes that it started. The folder is in /tmp: the toolchain takes absolute paths of plain
letters only, and leaves much behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from failure import VendorError
from host_limits import available_bytes, floor_bytes, resident_bytes
from job_file import Job, check_double
from unproven import MEMORY_WORDS, WRITTEN_FOR

CHILD = Path(__file__).with_name("toolchain_child.py")
LOG = "toolchain.log"
TAIL_LINES = 12
WATCH_SECONDS = 0.5
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")


class ToolchainMemoryError(VendorError):
    """The toolchain ran out of memory, or most likely so: less at once may do."""


class Toolchain:
    """One process of the toolchain and its working folder; use it in a `with`."""

    def __init__(self, job: Job):
        self._job = job
        self.log = job.folder / LOG
        self.platform = job.chip[2:]  # "kl730" is the toolchain's "730"
        self.folder = Path(tempfile.mkdtemp(prefix="kneron-")).resolve()
        self.about: dict[str, Any] = {}  # versions, from the command start
        self._stopped = ""  # why the watch stopped the process
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Toolchain:
        try:
            if not PLAIN_PATH.fullmatch(str(self.folder)):
                raise VendorError(f"the toolchain takes no path like {self.folder}", "set TMPDIR to a plain one: /tmp")
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restart(self) -> None:
        """A fresh process in the same folder, after the old one died or failed."""
        self._stop()
        self._start()

    def _start(self) -> None:
        # It starts helpers by the bare name `python`: they have to be of the same environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {**os.environ, "PATH": path, "TMPDIR": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self._stopped = ""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "utf8", str(CHILD)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that its helpers can be counted, and stopped with it
            )
        self.about = self.call("start")
        for name, double in self.about["doubles"].items():
            check_double(self._job, SimpleNamespace(__name__=name, NPUMAKE_DOUBLE=double))

    @property
    def version(self) -> str:
        """The toolchain's release: "v0.33.1", "double", or "unknown"."""
        return "double" if self._job.double else self.about["version"]

    @property
    def version_warnings(self) -> list[str]:
        """What to say of another release than the one whose documents these scripts were written for."""
        if self._job.double or self.version.lstrip("v") == WRITTEN_FOR.lstrip("v"):
            return []
        return [f"these scripts were written for toolchain {WRITTEN_FOR}, this is {self.version}"]

    def close(self) -> None:
        """End the process and its helpers, and remove its folder."""
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._kill(process)
            process.communicate()

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def put(self, source: Path, name: str) -> Path:
        """Give a file of the job this name in the working folder, in place of another that had it."""
        target = self.folder / name
        target.unlink(missing_ok=True)
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            raise VendorError(
                f"{source} is missing", "run make again, or compile again: python compile.py JOB"
            ) from None
        return target

    def empty_folder(self, name: str) -> Path:
        """A new folder in the working folder, for what a step of the toolchain writes."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return target

    def call(self, command: str, **ask: Any) -> dict[str, Any]:
        """Have the child do a command of toolchain_child.py.

        Raises VendorError when the toolchain refuses or dies, ToolchainMemoryError when memory is likely the cause.
        """
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(process, done), daemon=True)
        watch.start()
        try:
            process.stdin.write(json.dumps({"do": command, "platform": self.platform, **ask}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            done.set()
            watch.join()
        if not line.endswith("\n"):
            raise self._died(command, process.wait())
        answer = json.loads(line)
        if not answer["ok"]:
            raise self._refused(answer["call"], answer["problem"])
        return answer

    def _watch(self, process: subprocess.Popen[str], done: threading.Event) -> None:
        """Stop the toolchain before the machine freezes: when hardly any memory is free, and it holds much."""
        floor = floor_bytes()
        while not done.wait(WATCH_SECONDS):
            left = available_bytes()
            if left is None:
                return
            if left < floor and (held := resident_bytes(process.pid)) > floor:
                self._stopped = f"{left / 1e9:.1f} GB of memory were left, it held {held / 1e9:.1f} GB"
                self._kill(process)
                return

    def _refused(self, name: str, problem: str) -> VendorError:
        self._show_tail()
        if name == "start" and "No module named" in problem:
            return VendorError(
                f"this Python ({sys.executable}) has no Kneron toolchain: {problem}",
                "run in the image of this folder's Dockerfile; no volume may cover /workspace",
            )
        kind = ToolchainMemoryError if any(word in problem for word in MEMORY_WORDS) else VendorError
        return kind(
            f"the toolchain's {name} failed: {problem}",
            f"its own messages stand in {self.log}; README.md has the common ones",
        )

    def _died(self, command: str, code: int) -> VendorError:
        self._show_tail()
        hint = f"its own messages stand in {self.log}; run the same command again"
        if self._stopped:
            return ToolchainMemoryError(
                f"the toolchain was stopped during {command}: {self._stopped}",
                "close other programs, give the container more memory, or calibrate with fewer images",
            )
        if code >= 0:
            return VendorError(f"the toolchain left with exit code {code} during {command}", hint)
        kind = ToolchainMemoryError if -code in (signal.SIGKILL, signal.SIGABRT) else VendorError
        return kind(f"the toolchain was killed by {signal.Signals(-code).name} during {command}", hint)

    def _show_tail(self) -> None:
        """The end of what the toolchain said, for whoever reads this script's own log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for line in [line for line in lines if line.strip() and "Traceback" not in line][-TAIL_LINES:]:
            print(f" | {line}", file=sys.stderr)

    def simulate(
        self, kind: str, file: Path, inputs: dict[str, np.ndarray], order: list[str] | None
    ) -> tuple[list[np.ndarray], bool]:
        """Run one sample, float32 [1, C, H, W] by input name, through an "onnx", "bie" or "nef".

        order: names of the outputs in the order that is wanted. Returns the outputs, and whether they are in it.
        """
        source, target = self.folder / "samples.npz", self.folder / "outputs.npz"
        target.unlink(missing_ok=True)
        np.savez(source, **inputs)
        answer = self.call(
            "simulate",
            kind=kind,
            file=str(file),
            samples=str(source),
            outputs=str(target),
            inputs=list(inputs),
            order=order,
        )
        try:
            with np.load(target, allow_pickle=False) as archive:
                return [archive[name] for name in archive.files], answer["ordered"]
        except (OSError, ValueError) as error:
            raise VendorError(f"the toolchain's simulator left no outputs ({error})", f"see {self.log}") from None
