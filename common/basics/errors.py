"""How npumake fails: one clear message, one hint, a non-zero exit, no traceback."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator

USAGE_EXIT = 2  # a wrong name or a wrong call, as getopt and argparse exit
FAILURE_EXIT = 1
INTERRUPTED_EXIT = 130  # 128 + SIGINT, as a shell reports it
INTERRUPTED = (
    "interrupted; nothing half-written is kept",
    "run the same make again: it goes on where it stopped",
)


class UserError(Exception):
    """Something from outside is wrong, and its owner can mend it.

    message: what is wrong and where (file, node, image, key).
    hint: the next thing to try, one line; printed after "HINT:".
    exit_code: 1, or 2 for an unknown name or a wrong call.
    """

    def __init__(self, message: str, hint: str | None = None, exit_code: int = FAILURE_EXIT):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def report_error(message: str, hint: str | None) -> None:
    """Print the message and the hint to stderr, in the one form that every stage uses."""
    print(f"ERROR: {message}", file=sys.stderr)
    if hint:
        print(f"HINT: {hint}", file=sys.stderr)
    _record(message, hint)


def _record(message: str, hint: str | None) -> None:
    """Leave the failure for the summary of `make all`, which names a folder for such records in NPUMAKE_FAILURES."""
    folder = os.environ.get("NPUMAKE_FAILURES")
    if not folder:
        return
    record = {"arguments": sys.argv[1:], "message": message, "hint": hint}
    with contextlib.suppress(OSError):  # the message was printed; a full disk must not hide it
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{os.getpid()}.json"), "w", encoding="utf-8") as file:
            json.dump(record, file)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """While modules are imported, an interruption ends the process at once, with the one clean message.

    A KeyboardInterrupt in the middle of a compiled module's initialisation is not passed on but printed, with a
    traceback, by whatever it hits. Nothing is being written then, so that there is nothing to clean up.
    """

    def leave(number: int, frame: object) -> None:
        report_error(*INTERRUPTED)
        sys.stderr.flush()
        os._exit(INTERRUPTED_EXIT)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def run(main: Callable[[], int | None]) -> None:
    """Call main() and exit; every known failure becomes a message, a hint and an exit code.

    An unknown failure is a defect of npumake and keeps its traceback (it is what a bug report needs).
    """
    # A cancelled CI job or a stopped container sends SIGTERM: it deserves the same clean end as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = main()
    except UserError as error:
        report_error(error.message, error.hint)
        code = error.exit_code
    except KeyboardInterrupt:
        report_error(*INTERRUPTED)
        code = INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader went away (make list | head): not an error of ours. Keep the interpreter's own flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            report_error(
                f"the disk is full: {error.filename or error}", "free some space, then run the same make again"
            )
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            report_error(
                f"not allowed to write or read {error.filename}: {error.strerror}",
                "who owns that path, and is its disk mounted for reading only? `ls -ld` and `df` tell; a folder that "
                "a container or another user made: `sudo chown -R $USER out`",
            )
        else:
            import traceback  # only here: every stage starts with this module

            traceback.print_exc()
        code = FAILURE_EXIT
    sys.exit(code or 0)
