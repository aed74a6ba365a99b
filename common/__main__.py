"""`python -m common STAGE ARGUMENTS...`: run a stage's main(), as the Makefile does.

The same as `python -m common.STAGE`, but an interruption counts from the first moment: importing numpy, torch or
onnxruntime takes a while on a busy machine, and Ctrl-C should give one clean line then, too.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from common.basics.errors import USAGE_EXIT, UserError, quiet_imports, run
from common.basics.locks import alone, folder_of

# numpy starts a thread a core for its linear algebra, of which no stage does any that counts: a tenth of a second of
# processor time, taken from whatever else runs. The variable is read at import.
BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """While modules are imported, numpy makes itself ready for one thread, unless the user says otherwise.

    Afterwards the variable is gone: the vendors' scripts, which are started from here, do such algebra.
    """
    said = BLAS_THREADS in os.environ
    os.environ.setdefault(BLAS_THREADS, "1")
    try:
        yield
    finally:
        if not said:
            del os.environ[BLAS_THREADS]


def load_stage(stage: str) -> ModuleType:
    """Import a stage: of common/, or any dotted module."""
    module = stage if "." in stage else f"common.{stage}"
    with quiet_imports(), one_blas_thread():
        return importlib.import_module(module)


def main() -> int | None:
    """Import the stage (of common/, or any dotted module) and call its main() with the remaining arguments."""
    if len(sys.argv) < 2:
        raise UserError("which stage? python -m common STAGE ARGUMENTS...", "the Makefile shows them all", USAGE_EXIT)
    loaded = load_stage(sys.argv.pop(1))
    sys.argv[0] = loaded.__name__
    folder = folder_of(sys.argv[1:])
    with alone(folder) if folder else contextlib.nullcontext():
        return loaded.main()


if __name__ == "__main__":
    run(main)
