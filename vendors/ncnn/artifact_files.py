"""The names of what compile.py makes."""

from __future__ import annotations

from pathlib import Path

from job_file import Job


def artifact_files(job: Job) -> list[Path]:
    """The two files that an application loads, in the order of their fingerprint."""
    return [job.folder / f"{job.artifact}.ncnn.param", job.folder / f"{job.artifact}.ncnn.bin"]


def side_files(job: Job) -> list[Path]:
    """What an int8 job keeps beside them: the table of scales and the float files that were quantised."""
    return [job.folder / f"{job.artifact}{suffix}" for suffix in (".table", ".float.param", ".float.bin")]
