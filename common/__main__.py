"""`python -m common STAGE ARGUMENTS...`: run a stage's main(), as the Makefile does.

The same as `python -m common.STAGE`, but an interruption counts from the first moment: importing numpy, torch or
onnxruntime takes a while on a busy machine, and Ctrl-C should give one clean line then, too.
"""

from __future__ import annotations

import contextlib
import importlib
import sys

from common.basics.errors import USAGE_EXIT, UserError, quiet_imports, run
from common.basics.locks import alone, folder_of


def main() -> int | None:
    """Import the stage (of common/, or any dotted module) and call its main() with the remaining arguments."""
    if len(sys.argv) < 2:
        raise UserError("which stage? python -m common STAGE ARGUMENTS...", "the Makefile shows them all", USAGE_EXIT)
    stage = sys.argv.pop(1)
    module = stage if "." in stage else f"common.{stage}"
    sys.argv[0] = module
    with quiet_imports():
        loaded = importlib.import_module(module)
    folder = folder_of(sys.argv[1:])
    with alone(folder) if folder else contextlib.nullcontext():
        return loaded.main()


if __name__ == "__main__":
    run(main)
