"""A job on an engine of another machine: the job folder goes into the container, and what is new comes back.

    python -m common remote_container PROGRAM JOB OPTION... IMAGE SCRIPT ARGUMENT...

With DOCKER_HOST=ssh://... a folder of this machine cannot be mounted there. So the container is created, gets the job
folder as a tar stream, runs, and is asked for the folder again; it is removed however that ends. Only what the script
wrote is taken, and only when it ended well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

from common.basics.errors import FAILURE_EXIT, USAGE_EXIT, UserError, run
from common.basics.files import replacing
from common.engines.container import JOB

LEFT_HERE = {"rungs"}  # earlier results; no script reads them


def travels(name: PurePosixPath) -> bool:
    """Whether a file of the job folder, by its path in it, is of any use to a script."""
    return bool(name.parts) and name.parts[0] not in LEFT_HERE and name.suffix not in (".png", ".jpg", ".log")


def send(program: str, container: str, job: Path) -> dict[str, tuple[int, int]]:
    """Copy the job folder into the container, as the user who will run it. Returns {name: (bytes, seconds)} of it."""
    sent: dict[str, tuple[int, int]] = {}

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = PurePosixPath(member.name).relative_to(JOB.lstrip("/"))
        if name.parts and not travels(name):
            return None
        member.uid, member.gid = os.getuid(), os.getgid()
        member.mtime = int(member.mtime)  # what comes back is compared with this
        sent[str(name)] = (member.size, int(member.mtime))
        return member

    # Into the root, with the folder itself: so it is made, and belongs to the user. (`cp --archive` would look the user
    # up in the image's passwd, where nobody's own id stands.)
    with subprocess.Popen([program, "cp", "-", f"{container}:/"], stdin=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdin, mode="w|", dereference=True) as archive:
                archive.add(job, JOB.lstrip("/"), filter=owned)
        except BrokenPipeError:
            pass  # its own words follow
        process.stdin.close()
    if process.returncode != 0:
        raise UserError(
            f"the job folder did not reach {os.environ.get('DOCKER_HOST')}", "the engine's own words stand above"
        )
    return sent


def fetch(program: str, container: str, job: Path, sent: dict[str, tuple[int, int]]) -> None:
    """Bring back what the script wrote, each file whole or not at all. Raises UserError when the stream breaks off."""
    with subprocess.Popen([program, "cp", f"{container}:{JOB}/.", "-"], stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    name = PurePosixPath(*(part for part in PurePosixPath(member.name).parts if part != "."))
                    inside = not name.is_absolute() and ".." not in name.parts
                    if not member.isfile() or not inside or not travels(name):
                        continue
                    if sent.get(str(name)) == (member.size, int(member.mtime)):
                        continue
                    with replacing(job / name) as temporary, open(temporary, "wb") as file:
                        shutil.copyfileobj(archive.extractfile(member), file)
            # The archive has ended, the stream may not have: zeros fill it up. An engine that cannot write them fails.
            while process.stdout.read(1 << 16):
                pass
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"the results did not come back whole: {error}", "run the same make again") from None
    if process.returncode != 0:
        raise UserError("the results did not come back", "the engine's own words stand above")


def run_away(program: str, job: Path, words: list[str]) -> int:
    """Create, send, run, fetch, remove. Returns the script's exit code."""
    done = subprocess.run([program, "create", *words], stdout=subprocess.PIPE, text=True, check=False)
    container = done.stdout.strip()
    if done.returncode != 0 or not container:
        raise UserError(f"{program} create failed with exit code {done.returncode}", "its own words stand above")
    try:
        sent = send(program, container, job)
        code = subprocess.run([program, "start", "--attach", container], check=False).returncode
        if code == 0:
            fetch(program, container, job, sent)
        return code
    finally:
        with contextlib.suppress(OSError):
            subprocess.run([program, "rm", "--force", "--volumes", container], capture_output=True, check=False)


def main() -> int:
    """python -m common remote_container PROGRAM JOB OPTION... IMAGE SCRIPT ARGUMENT..."""
    if len(sys.argv) < 5:
        raise UserError("this is called by npumake itself", "see common/engines/container.py", USAGE_EXIT)
    program, job, *words = sys.argv[1:]
    code = run_away(program, Path(job), words)
    return FAILURE_EXIT if code < 0 else code


if __name__ == "__main__":
    run(main)
