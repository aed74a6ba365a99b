"""The only module that imports AMCT: its versions, its signatures, and its operators for onnxruntime.

Written for AMCT of CANN 8.5 (amct_onnx 0.2x). Everything about it that is not sure is in the two tables below and is
checked when it is used; README.md lists it under "Unproven".
"""

from __future__ import annotations

import atexit
import importlib.metadata
import inspect
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError

# The arguments that are given, by name: "AMCT (ONNX)", API reference. config_defination is spelled so.
ARGUMENTS = {
    "create_quant_config": (
        "config_file",
        "model_file",
        "skip_layers",
        "batch_num",
        "activation_offset",
        "config_defination",
    ),
    "quantize_model": ("config_file", "model_file", "modified_onnx_file", "record_file"),
    "save_model": ("modified_onnx_file", "record_file", "save_path"),
}
# "AMCT (ONNX)", environment: onnxruntime that each Python is to have. With another one its operators may crash.
ONNXRUNTIME_FOR = {"3.7": "1.6", "3.9": "1.8 or 1.9", "3.10": "1.16", "3.11": "1.16", "3.12": "1.20", "3.13": "1.20"}
INSTALL = "put Ascend-cann-amct_<version>_linux-x86_64.tar.gz into sdk/ and build the image: README.md says where it is"


def import_amct() -> Any:
    """The amct_onnx module. Raises VendorError when it is missing, or without its operators."""
    before = Path.cwd()
    place = tempfile.mkdtemp(prefix="amct-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        os.chdir(place)  # on import it makes amct_log/ in the working folder
        import amct_onnx
    except ImportError as error:
        raise VendorError(f"AMCT, which PRECISION=int8 needs, cannot be imported: {error}", INSTALL) from None
    finally:
        os.chdir(before)
    if getattr(amct_onnx, "AMCT_SO", None) is None:
        raise VendorError(
            f"AMCT {version_of('amct_onnx')} has no operators for onnxruntime {version_of('onnxruntime')} "
            "(amct_onnx.AMCT_SO is None)",
            "build amct_onnx_op with the headers of exactly this onnxruntime: install_amct.py does",
        )
    return amct_onnx


def version_of(name: str) -> str:
    """A distribution's version; "unknown" when it was not installed as one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def tools() -> dict[str, str]:
    """Names and versions, for compile.json."""
    return {name: version_of(name) for name in ("amct_onnx", "onnxruntime", "onnx", "numpy")}


def check_versions() -> str | None:
    """A sentence when onnxruntime is not the one that AMCT's own table names for this Python."""
    python, found = ".".join(platform.python_version_tuple()[:2]), version_of("onnxruntime")
    wanted = ONNXRUNTIME_FOR.get(python)
    if wanted is not None and any(found.startswith(f"{version}.") for version in wanted.split(" or ")):
        return None
    named = f"wants onnxruntime {wanted}" if wanted else "does not name this Python"
    return f"AMCT's table {named} with Python {python}; this is onnxruntime {found}: where it crashes, that is why"


def check_signature(amct: Any, name: str) -> None:
    """VendorError, with the signature that was found, unless the function takes the arguments by these names."""
    function = getattr(amct, name, None)
    if function is None:
        raise VendorError(f"this AMCT ({version_of('amct_onnx')}) has no {name}", INSTALL)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a compiled function does not tell
        return
    known = signature.parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    if missing := [argument for argument in ARGUMENTS[name] if argument not in known]:
        raise VendorError(
            f"this AMCT's {name}{signature} does not take {', '.join(missing)}",
            "use the version that chip.yaml names, or correct ARGUMENTS in amct_session.py",
        )


class AmctSession:
    """An ONNX of AMCT's in onnxruntime, with AMCT's operators: the one to calibrate, or the fake-quantised one."""

    def __init__(self, amct: Any, path: Path):
        """Raises VendorError when onnxruntime refuses the file."""
        import onnxruntime

        options = amct.AMCT_SO
        # Optimised, the graph loses the nodes that measure and round (AMCT release notes, known problem with 1.8 on).
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common parent
            raise VendorError(
                f"onnxruntime {onnxruntime.__version__} cannot load {path.name}: {str(error).splitlines()[0]}",
                "AMCT's operators are built for one onnxruntime: build the image again",
            ) from None
        self.names = [value.name for value in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in; arrays by output name out."""
        try:
            found = self._session.run(self.names, inputs)
        except Exception as error:
            raise VendorError(
                f"onnxruntime cannot run AMCT's network: {str(error).splitlines()[0]}", "see amct.log"
            ) from None
        return {name: np.asarray(found[index]) for index, name in enumerate(self.names)}


if __name__ == "__main__":  # the image's build runs this: AMCT is there and works, or the build fails
    try:
        module = import_amct()
        for function_name in ARGUMENTS:
            check_signature(module, function_name)
        print(f"AMCT {version_of('amct_onnx')}, onnxruntime {version_of('onnxruntime')}")
    except VendorError as failed:
        sys.exit(f"ERROR: {failed.message}\nHINT: {failed.hint}")
