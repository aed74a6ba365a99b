"""How much of this machine the toolchain may take: threads by cores and memory, and when it has to be stopped.

Every thread of the analysis is a process that holds the network and its activations; too many freeze the machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from unproven import THREAD_BYTES, THREAD_BYTES_PER_PIXEL

MOST_THREADS = 4  # the manual's default
USABLE = 0.7  # of the memory that is free now
CGROUP = Path("/sys/fs/cgroup")  # in a container: its own group
PROC = Path("/proc")


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8").split()
    except OSError:
        return None
    return int(text[0]) if text and text[0].isdecimal() else None


def _meminfo() -> dict[str, int]:
    try:
        lines = (PROC / "meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: int(rest.split()[0]) * 1024 for name, rest in pairs if rest.split()[0].isdecimal()}


def available_bytes() -> int | None:
    """The memory in bytes that can be taken now, by this machine or by this container's limit; None where neither can
    be told (no Linux)."""
    found = [value for value in (_meminfo().get("MemAvailable"), _left_in_cgroup()) if value is not None]
    return min(found) if found else None


def _left_in_cgroup() -> int | None:
    """Linux, cgroup-v2.rst (memory.max, memory.current) and cgroup-v1/memory.rst; the page cache can be given back."""
    for limit_file, used_file, stat_file, cache in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        limit, used = _number(CGROUP / limit_file), _number(CGROUP / used_file)
        if limit is not None and used is not None:
            try:
                lines = (CGROUP / stat_file).read_text(encoding="utf-8").splitlines()
            except OSError:
                lines = []
            back = sum(int(line.split()[1]) for line in lines if line.startswith(f"{cache} "))
            return max(0, limit - used + back)
    return None


def cores() -> int:
    """The cores that this process may use, by its affinity and its container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        count = os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="utf-8").split()
        if quota.isdecimal():
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def threads_for(pixels: int, model_bytes: int, wide: bool) -> tuple[int, str]:
    """How many threads the analysis gets, and why in words.

    pixels: height times width of the input. wide: whether activations may be of 16 bits.
    """
    each = THREAD_BYTES + 2 * model_bytes + THREAD_BYTES_PER_PIXEL[wide] * pixels
    available = available_bytes()
    by_memory = MOST_THREADS if available is None else int(USABLE * available / each)
    threads = max(1, min(MOST_THREADS, cores(), by_memory))
    free = "unknown" if available is None else f"{available / 1e9:.1f} GB"
    return threads, f"{cores()} cores, {free} free, about {each / 1e9:.1f} GB a thread"


def floor_bytes() -> int:
    """Below this much free memory the machine is about to freeze."""
    return int(min(1e9, max(250e6, _meminfo().get("MemTotal", 0) * 0.04)))


def resident_bytes(session: int) -> int:
    """The resident memory in bytes of all processes of a session (proc(5): stat, fields session and rss)."""
    pages = 0
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if len(fields) > 21 and int(fields[3]) == session:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")
