"""How the scripts of this folder speak: one clear message, one hint, a non-zero exit; progress while somebody looks."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable

FAILURE_EXIT = 1
UNAVAILABLE_EXIT = 3
INTERRUPTED_EXIT = 130  # 128 + SIGINT, as a shell reports it


class VendorError(Exception):
    """Something from outside is wrong, and its owner can mend it.

    message: what is wrong and where (file, layer, key).
    hint: the next thing to try, one line; printed after "HINT:".
    """

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint


class RungUnavailableError(VendorError):
    """This rung of chip.yaml cannot be built on this machine or with this calibration; another one may be.

    The exit code is then UNAVAILABLE_EXIT, and the climb goes on to the next rung.
    """


def report(message: str, hint: str = "") -> None:
    """Print the message and the hint to stderr."""
    print(f"ERROR: {message}", file=sys.stderr)
    if hint:
        print(f"HINT: {hint}", file=sys.stderr)


def quiet() -> bool:
    """Whether nobody watches: no terminal here, and none behind the program that started this one (PROGRESS=1)."""
    return not (sys.stderr.isatty() or os.environ.get("PROGRESS") == "1")


def run(main: Callable[[list[str]], None]) -> None:
    """Call main(arguments) and exit; every known failure becomes a message, a hint and an exit code.

    SIGTERM (a stopped container, a cancelled CI job) is treated like Ctrl-C, so that temporary files go away.
    """

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # A program started in the background by a shell without job control inherits SIGINT as ignored.
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    code = 0
    try:
        main(sys.argv[1:])
    except VendorError as failure:
        report(failure.message, failure.hint)
        code = UNAVAILABLE_EXIT if isinstance(failure, RungUnavailableError) else FAILURE_EXIT
    except KeyboardInterrupt:
        report("interrupted; nothing half-written is kept", "run the same command again")
        code = INTERRUPTED_EXIT
    except BrokenPipeError:
        # The reader went away (script | head): not an error of ours. Keep the interpreter's own flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        code = FAILURE_EXIT
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            report(f"the disk is full: {error.filename or error}", "free some space, then run the same command again")
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            report(f"not allowed to read or write {error.filename}", "check owner and mode of that path")
        else:
            traceback.print_exc()
    except MemoryError:
        report("out of memory", "close other programs, or compile on a machine with more memory")
        code = FAILURE_EXIT
    sys.exit(code)
