"""Every call of Hailo's Dataflow Compiler, and all that is not proven about it.

Written from public documents and from callers that run; never run against the SDK itself. So each call is first held
against the signature that is found, and whatever comes back is checked; a difference is told with what was found and
with the point of UNPROVEN that it belongs to. README.md has the same list.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError
from job_file import Job, check_double, chip_list
from sdk_errors import explained

MODULE = "hailo_sdk_client"
UNPROVEN = {
    "version": "hailo_sdk_client.__version__ exists",
    "ClientRunner": "ClientRunner(hw_arch=, har=)",
    "translate_onnx_model": "translate_onnx_model(model, net_name, end_node_names=, net_input_shapes=); end nodes by "
    "node name; start nodes may be left out",
    "get_hn_dict": "get_hn_dict()['layers'][name]['original_names', 'output_shapes', 'input', 'type'] and "
    "['net_params']['output_layers_order']",
    "save_har": "save_har(path)",
    "load_model_script": "load_model_script(path of a file)",
    "optimize": "optimize(float32 array of (N, H, W, C)); data_type left to the SDK",
    "infer_context": "infer_context(InferenceContext.X) is a context manager",
    "infer": "infer(context=, dataset=, batch_size=) gives one array, or a list in output_layers_order, (N, H, W, C)",
    "contexts": "SDK_NATIVE on the parsed HAR takes normalised values, SDK_FP_OPTIMIZED and SDK_QUANTIZED raw pixels",
    "compile": "compile() gives the bytes of the .hef",
}
CONTEXTS = ("SDK_NATIVE", "SDK_FP_OPTIMIZED", "SDK_QUANTIZED")
GET = "README.md, From nothing to an artifact: it is Hailo's, and sdk/README.md says where it is offered"
INFER_BATCH = 8


class Sdk:
    """The imported SDK. Make one in a process of its own, in a folder that it may write into (sdk_process.py)."""

    def __init__(self, job: Job, step: Callable[[str], None]):
        """step: is told each call before it is made, for the message if it ends the process."""
        self._step = step
        step("import hailo_sdk_client")
        try:
            self.module = importlib.import_module(MODULE)
        except ImportError as error:
            raise VendorError(f"{MODULE} cannot be imported: {error}", GET) from None
        except Exception as error:
            raise explained("import", error, "version unknown") from None
        check_double(job, self.module)
        self.chip = job.chip
        self.version = self._checked_version()
        print(f"Hailo Dataflow Compiler {self.version}, Python {sys.version.split()[0]}", file=sys.stderr)

    def _checked_version(self) -> str:
        version = str(getattr(self.module, "__version__", ""))
        if not version:
            from importlib.metadata import PackageNotFoundError
            from importlib.metadata import version as installed

            try:
                version = installed("hailo_dataflow_compiler")
            except PackageNotFoundError:
                raise self._unlike("version", "it tells no version") from None
        known = [pair.split(":")[0] for pair in chip_list("releases")]
        series = ".".join(version.split(".")[:2])
        if not version.startswith("3."):
            raise VendorError(
                f"this is Hailo's Dataflow Compiler {version}; {self.chip} takes 3.x (5.x is for hailo10h and hailo15)",
                GET,
            )
        if series not in known:
            print(f"NOTE: {version} is none of the versions written for: {', '.join(known)}", file=sys.stderr)
        return version

    def _unlike(self, point: str, found: str) -> VendorError:
        version = getattr(self, "version", "unknown")
        return VendorError(
            f"this SDK ({version}) is not as expected: {found}. Expected: {UNPROVEN[point]}",
            f"README.md, Unproven; the call stands in {Path(__file__).name}",
        )

    def _bind(self, point: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Hold the arguments of a call against the signature that this SDK has."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return  # written in C: it will say itself
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            raise self._unlike(point, f"it has {point}{signature} ({error})") from None

    def _call(self, point: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the SDK: first hold the arguments against the signature, then explain what it throws."""
        self._step(point)
        self._bind(point, function, *arguments, **options)
        try:
            return function(*arguments, **options)
        except (Exception, SystemExit) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            raise explained(point, error, self.version) from None

    def _method(self, runner: Any, name: str) -> Callable[..., Any]:
        found = getattr(runner, name, None)
        if not callable(found):
            there = ", ".join(word for word in dir(runner) if not word.startswith("_"))
            raise self._unlike(name, f"ClientRunner has no {name}, but {there}")
        return found

    def _runner(self, har: Path | None = None) -> Any:
        kind = getattr(self.module, "ClientRunner", None)
        if kind is None:
            raise self._unlike("ClientRunner", f"{MODULE} has none")
        options = {} if har is None else {"har": str(har)}
        return self._call("ClientRunner", kind, hw_arch=self.chip, **options)

    def _save(self, runner: Any, path: Path) -> None:
        self._call("save_har", self._method(runner, "save_har"), str(path))
        if not path.is_file() or not path.stat().st_size:
            raise self._unlike("save_har", f"it wrote no {path.name}")

    def _network(self, runner: Any) -> dict[str, Any]:
        hn = self._call("get_hn_dict", self._method(runner, "get_hn_dict"))
        if not hasattr(hn, "get") or not hasattr(hn.get("layers"), "items"):
            raise self._unlike("get_hn_dict", f"it gives {type(hn).__name__} {str(hn)[:200]}")
        return hn

    def parse(self, graph: Path, name: str, end_nodes: list[str], shapes: dict[str, list[int]], har: Path) -> None:
        """ONNX -> parsed HAR. end_nodes: ONNX node names; shapes: {input: [1, C, H, W]}; name: of the network."""
        runner = self._runner()
        self._call(
            "translate_onnx_model",
            self._method(runner, "translate_onnx_model"),
            str(graph),
            name,
            end_node_names=end_nodes,
            net_input_shapes=shapes,
        )
        self._save(runner, har)

    def network(self, har: Path) -> dict[str, Any]:
        """get_hn_dict() of a HAR: its layers, with the ONNX names that they were made of."""
        return self._network(self._runner(har))

    def quantise(self, parsed: Path, script: Path, calibration: np.ndarray, har: Path) -> None:
        """Parsed HAR -> quantised HAR. calibration: float32 (N, H, W, C), as the script expects it."""
        runner = self._runner(parsed)
        self._call("load_model_script", self._method(runner, "load_model_script"), str(script))
        self._call("optimize", self._method(runner, "optimize"), calibration)
        self._save(runner, har)

    def compile(self, quantised: Path, hef: Path) -> None:
        """Quantised HAR -> .hef."""
        runner = self._runner(quantised)
        content = self._call("compile", self._method(runner, "compile"))
        if not isinstance(content, (bytes, bytearray)) or not content:
            raise self._unlike("compile", f"it gives {type(content).__name__}, not the bytes of a .hef")
        hef.write_bytes(content)

    def emulate(self, har: Path, context: str, inputs: np.ndarray) -> tuple[list[np.ndarray], dict[str, Any]]:
        """All samples in one call: float32 (N, H, W, C) in; the outputs in Hailo's order, and get_hn_dict() of it."""
        contexts = getattr(self.module, "InferenceContext", None)
        kind = getattr(contexts, context, None)
        if kind is None:
            raise self._unlike("contexts", f"{MODULE}.InferenceContext has no {context}")
        runner = self._runner(har)
        hn = self._network(runner)
        open_context, infer = self._method(runner, "infer_context"), self._method(runner, "infer")
        options = {"dataset": inputs, "batch_size": min(INFER_BATCH, len(inputs))}
        self._bind("infer_context", open_context, kind)
        self._bind("infer", infer, context=None, **options)

        def run() -> Any:
            with open_context(kind) as opened:
                return infer(context=opened, **options)

        given = self._call("infer", run)
        outputs = [np.asarray(array) for array in given] if isinstance(given, (list, tuple)) else [np.asarray(given)]
        if any(array.ndim < 2 or len(array) != len(inputs) for array in outputs):
            raise self._unlike("infer", f"{len(inputs)} samples gave {', '.join(str(a.shape) for a in outputs)}")
        return outputs, hn
