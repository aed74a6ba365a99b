"""`make doctor`: what this machine has of what is needed, and what to do about the rest. Two seconds, nothing changed.

    python3 -m common doctor

Runs on the machine's own Python, before any environment exists: standard library only. Exit 1 when something is missing
that `make demo` needs; what only a chip or a container needs is "optional".
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common import environment
from common.basics import terminal
from common.basics.errors import FAILURE_EXIT, run
from common.basics.memory import machine_bytes
from common.basics.wording import size_in_words
from common.engines import machine_facts
from common.engines.machine_facts import Engine, declared, numbers, version_in
from common.engines.vendor_checkup import ENVIRONMENTS, VendorFolder, made

OK, MISSING, OPTIONAL = "ok", "missing", "optional"
COLORS = {OK: "32", MISSING: "31", OPTIONAL: "33"}  # ANSI
MAKE_NEEDED = "4.3"
DEADLINE = 1.6  # seconds for all programs together; they are asked side by side
# Measured on x86-64: .venv/common 1.8 GB, the demo chip's 0.2 GB, pip's downloads beside them; out/ of the demo 0.1 GB.
BYTES_TO_INSTALL, BYTES_TO_BUILD = 4_000_000_000, 500_000_000
LEAST_MEMORY = 2_000_000_000  # torch or a compiler, one at a time, and the system beside it


class Line(NamedTuple):
    """One line of the answer. cure: what to do, a line for each thing."""

    state: str
    subject: str
    detail: str
    cure: str = ""


def in_parallel(questions: dict[str, Callable[[], Any]], seconds: float = DEADLINE) -> dict[str, Any]:
    """Ask all at once; the answers by name. One that does not come in time, or fails, is None: a program that hangs
    holds up nobody."""
    answers: dict[str, Any] = dict.fromkeys(questions)

    def put(name: str, question: Callable[[], Any]) -> None:
        try:
            answers[name] = question()
        except (OSError, SystemExit, ValueError):
            answers[name] = None

    threads = [threading.Thread(target=put, args=item, daemon=True) for item in questions.items()]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def python_line(ready: bool) -> Line:
    """The Python that make calls. ready: the environment is made, so that nothing is left to do for it."""
    version = ".".join(map(str, sys.version_info[:3]))
    detail = f"{version}, {sys.executable}"
    oldest, newest = (".".join(map(str, pair)) for pair in (environment.OLDEST, environment.NEWEST))
    if not environment.OLDEST <= sys.version_info[:2] <= environment.NEWEST:
        cure = f"install a Python of {oldest} to {newest} and name it: make demo PYTHON=python{oldest}"
        return Line(OPTIONAL if ready else MISSING, "Python", detail, cure)
    if not ready and not any(importlib.util.find_spec(name) for name in ("ensurepip", "virtualenv")):
        cure = "on Debian and Ubuntu: apt install python3-venv; elsewhere: python3 -m pip install virtualenv"
        return Line(MISSING, "Python", f"{detail}; it can make no virtual environment", cure)
    return Line(OK, "Python", detail)


def make_line(answers: dict[str, Any]) -> Line:
    """GNU make, under either of its names."""
    found = []
    for name in ("make", "gmake"):
        answer = answers[name]
        if answer is not None and answer.code == 0 and "GNU Make" in answer.text:
            found.append((name, version_in(answer.text) or "0.0"))
    for name, version in found:
        if numbers(version) >= numbers(MAKE_NEEDED):
            return Line(OK, "GNU make", version if name == "make" else f"{version}, called {name}")
    detail = f"{found[0][1]} is older than {MAKE_NEEDED}" if found else "not found"
    return Line(MISSING, "GNU make", detail, "apt install make; macOS: brew install make, then call it gmake")


def tool_line(name: str, needed: bool, purpose: str) -> Line:
    if shutil.which(name):
        return Line(OK, name, "found")
    return Line(MISSING if needed else OPTIONAL, name, "not found", f"install it: {purpose}")


def disk_line(ready: bool) -> Line:
    """Free space for out/ and .venv/, and whether they can be written."""
    closed = [
        str(path) for path in (Path(), Path("out"), Path(".venv")) if path.exists() and not os.access(path, os.W_OK)
    ]
    if closed:
        places = ", ".join("this folder" if path == "." else f"{path}/" for path in closed)
        return Line(MISSING, "disk", f"{places} cannot be written", "check owner and mode, or take a copy of your own")
    free = min(machine_facts.free_bytes(Path(name)) or 0 for name in ("out", ".venv"))
    needed = BYTES_TO_BUILD if ready else BYTES_TO_INSTALL
    if free < needed:
        cure = f"free some: {size_in_words(needed)} are needed{'' if ready else ' (the environments are not made yet)'}"
        return Line(MISSING, "disk", f"{size_in_words(free)} free for out/ and .venv/", cure)
    return Line(OK, "disk", f"{size_in_words(free)} free for out/ and .venv/")


def memory_line() -> Line:
    have = machine_bytes()
    detail = f"{size_in_words(have)}, of this machine or of what its container allows"
    if have < LEAST_MEMORY:
        return Line(MISSING, "memory", detail, f"{size_in_words(LEAST_MEMORY)} are needed to export and to compile")
    return Line(OK, "memory", detail)


def environment_line(ready: bool) -> Line:
    if ready:
        return Line(OK, "environment", f"{ENVIRONMENTS}/common is made")
    return Line(OPTIONAL, "environment", f"{ENVIRONMENTS}/common is not made yet, or out of date", "make demo makes it")


def demo_lines(answers: dict[str, Any]) -> Iterator[Line]:
    """What `make demo` needs."""
    ready = bool(answers["common"])
    yield python_line(ready)
    yield make_line(answers)
    for name, purpose in (("bash", "make's recipes are bash"), ("awk", "make reads chip.yaml with it")):
        yield tool_line(name, True, purpose)
    yield tool_line("git", False, "the tests ask it which files the project has")
    yield disk_line(ready)
    yield memory_line()
    yield environment_line(ready)


def engine_line(engine: Engine | None, name: str) -> Line:
    """A container engine: nothing but the chips that live in containers needs one."""
    if engine is None:
        return Line(OPTIONAL, name, "does not answer", f"`{name} info` tells more")
    cures = {
        "absent": "needed only for chips whose SDK is in a container",
        "silent": f"start it: `{name} info` tells more",
        "forbidden": "sudo usermod -aG docker $USER, then log in again; or use podman, which needs no rights",
        "slow": f"is it starting? `{name} info` tells more",
    }
    if engine.state != "ready":
        return Line(OPTIONAL, name, engine.detail, cures[engine.state])
    free = machine_facts.free_bytes(Path(engine.storage)) if engine.storage else None
    space = f", {size_in_words(free)} free in {engine.storage}" if free is not None else ""
    return Line(OK, name, f"{engine.detail} answers{space}")


def sections(answers: dict[str, Any], vendors: list[VendorFolder]) -> dict[str, list[Line]]:
    """All lines by section; the chips say what keeps each from being compiled here."""
    engines = [answers[name] for name in ("docker", "podman")]
    ready = [engine for engine in engines if engine is not None and engine.state == "ready"]
    chips = []
    for vendor in vendors:
        lacks = vendor.lacks(answers[vendor.name], ready)
        needed = vendor.demo and any(lack.fatal for lack in lacks)
        state = MISSING if needed else OPTIONAL if lacks else OK
        chips.append(
            Line(
                state, vendor.title, vendor.detail(answers[vendor.name], ready), "\n".join(lack.cure for lack in lacks)
            )
        )
    return {
        "For make demo": list(demo_lines(answers)),
        "For containers": [
            engine_line(engine, name) for engine, name in ((engines[0], "docker"), (engines[1], "podman"))
        ],
        "For each chip": chips,
    }


def print_sections(found: dict[str, list[Line]]) -> None:
    """Aligned lines; colours only on a terminal. What to do stands on lines of its own, behind an arrow."""
    in_color = terminal.colored()
    width = max(len(line.subject) for lines in found.values() for line in lines)
    for title, lines in found.items():
        print(title)
        for state, subject, detail, cure in lines:
            word = f"\x1b[{COLORS[state]}m{state:8}\x1b[0m" if in_color else f"{state:8}"
            print(f"  {word}  {subject:{width}}  {detail}".rstrip())
            for one in cure.splitlines():
                print(f"  {'':8}  {'':{width}}  -> {one}")
        print()


def main() -> int:
    """python3 -m common doctor"""
    environment.PROBE_SECONDS = machine_facts.SECONDS  # a shim that asks a question must not hold us up
    vendors = [VendorFolder(path.parent, declared(path)) for path in sorted(Path("vendors").glob("*/chip.yaml"))]
    questions: dict[str, Callable[[], Any]] = {
        "make": lambda: machine_facts.ask(["make", "--version"]),
        "gmake": lambda: machine_facts.ask(["gmake", "--version"]),
        "docker": lambda: machine_facts.engine("docker"),
        "podman": lambda: machine_facts.engine("podman"),
        "common": lambda: made("common", ["requirements.txt", "requirements-test.txt", "constraints.txt"]),
    }
    found = sections(in_parallel(questions | {vendor.name: vendor.environment for vendor in vendors}), vendors)
    print_sections(found)
    missing = [line.subject for line in found["For make demo"] + found["For each chip"] if line.state == MISSING]
    print(f"make demo cannot run: {', '.join(missing)}" if missing else "make demo can run on this machine.")
    return FAILURE_EXIT if missing else 0


if __name__ == "__main__":
    run(main)
