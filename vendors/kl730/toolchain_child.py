"""The only process that imports Kneron's toolchain: takes commands from toolchain.py, and a crash becomes an answer.

    python toolchain_child.py        started by toolchain.py, in a folder of its own

One JSON object a line on standard input, one on standard output; all that the toolchain prints goes to standard error.
{"do": "name of a command", ...} is answered by {"ok": true, ...} or {"ok": false, "call": ..., "problem": ...}. Every
path is absolute: the manual asks for that. Commands keep no state, so that any of them can be the first.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unproven import SignatureError, fitting, installed_version

MESSAGE_LETTERS = 600
MODEL_ID, MODEL_VERSION = 32769, "0001"  # ids up to 32767 are Kneron's own (appendix/toolchain_webgui.md)


class RefusedError(Exception):
    """A call of the toolchain that failed: `call` is its name."""

    def __init__(self, call: str, problem: str):
        super().__init__(problem)
        self.call = call


def call(name: str, function: Callable[..., Any], *first: Any, **arguments: Any) -> tuple[Any, list[str]]:
    """Call a function of the toolchain with the arguments that it takes; its result, and what was left out."""
    try:
        kept, dropped = fitting(name, function, arguments)
        return function(*first, **kept), dropped
    except SignatureError as error:
        raise RefusedError(name, str(error)) from None
    except SystemExit as left:
        raise RefusedError(name, f"it left the process with exit({left.code})") from None
    except Exception as error:  # its exceptions have no common parent
        traceback.print_exc()
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
        raise RefusedError(name, told[:MESSAGE_LETTERS]) from None


def load_graph(path: str) -> Any:
    import onnx

    return call("onnx.load", onnx.load, path)[0]


def model_config(ask: dict[str, Any], **source: Any) -> Any:
    """ktc.ModelConfig; source: exactly one of onnx_model and bie_path."""
    import ktc

    return call("ModelConfig", ktc.ModelConfig, MODEL_ID, MODEL_VERSION, ask["platform"], **source)[0]


def start(_ask: dict[str, Any]) -> dict[str, Any]:
    """Import the toolchain; what there is of it."""
    import ktc
    import onnx

    try:
        import kneronnxopt
    except ImportError as error:
        print(f"kneronnxopt: {error}")
        kneronnxopt = None
    found = {"ktc": ktc} if kneronnxopt is None else {"ktc": ktc, "kneronnxopt": kneronnxopt}
    doubles = {name: bool(getattr(module, "NPUMAKE_DOUBLE", False)) for name, module in found.items()}
    return {
        "doubles": doubles,
        "version": installed_version(),
        "python": platform.python_version(),
        "onnx": onnx.__version__,
        "optimiser": None if kneronnxopt is None else str(getattr(kneronnxopt, "__version__", "unknown")),
    }


def optimise(ask: dict[str, Any]) -> dict[str, Any]:
    """ONNX to ONNX, by kneronnxopt; by the older onnx2onnx_flow where that is not there or fails."""
    import ktc
    import onnx

    graph = load_graph(ask["graph"])
    try:
        from kneronnxopt import optimize

        made, _ = call("kneronnxopt.optimize", optimize, graph)
        by = "kneronnxopt.optimize"
    except (ImportError, RefusedError) as error:
        refused = str(error)
        print(f"kneronnxopt.optimize: {refused}; trying ktc.onnx_optimizer.onnx2onnx_flow")
        try:
            made, _ = call("onnx2onnx_flow", ktc.onnx_optimizer.onnx2onnx_flow, load_graph(ask["graph"]))
        except RefusedError as second:
            raise RefusedError("optimize", f"{refused}; and onnx2onnx_flow: {second}") from None
        by = f"ktc.onnx_optimizer.onnx2onnx_flow, because of kneronnxopt.optimize: {refused}"
    if not isinstance(made, onnx.ModelProto):
        raise RefusedError("optimize", f"it returned {type(made).__name__}, not an ONNX model")
    onnx.save(made, ask["target"])
    sides = [[value.name for value in side] for side in (made.graph.input, made.graph.output)]
    weights = {tensor.name for tensor in made.graph.initializer}
    return {
        "by": by,
        "inputs": [name for name in sides[0] if name not in weights],
        "outputs": sides[1],
        "nodes": len(made.graph.node),
    }


def evaluate(ask: dict[str, Any]) -> dict[str, Any]:
    """The IP evaluator: its text; its report lies in the folder."""
    config = model_config(ask, onnx_model=load_graph(ask["graph"]))
    text, dropped = call("evaluate", config.evaluate, output_dir=ask["folder"], **ask["arguments"])
    if not isinstance(text, str):
        raise RefusedError("evaluate", f"it returned {type(text).__name__}, not a text")
    return {"text": text, "dropped": dropped}


def analyse(ask: dict[str, Any]) -> dict[str, Any]:
    """Quantisation: the path of the .bie."""
    import numpy as np

    tensors = [np.load(path, allow_pickle=False) for path in ask["tensors"]]
    config = model_config(ask, onnx_model=load_graph(ask["graph"]))
    made, dropped = call(
        "analysis",
        config.analysis,
        {ask["input"]: tensors},
        output_dir=ask["folder"],
        threads=ask["threads"],
        **ask["arguments"],
    )
    return {"made": _path("analysis", made), "dropped": dropped}


def compile_nef(ask: dict[str, Any]) -> dict[str, Any]:
    """.bie to .nef: the path of the .nef."""
    import ktc

    config = model_config(ask, bie_path=ask["bie"])
    made, dropped = call("compile", ktc.compile, [config], output_dir=ask["folder"], **ask["arguments"])
    return {"made": _path("compile", made), "dropped": dropped}


def _path(name: str, made: Any) -> str:
    if not isinstance(made, (str, os.PathLike)) or not os.fspath(made):
        raise RefusedError(name, f"it returned {made!r}, not a path")
    return os.path.abspath(os.fspath(made))


def simulate(ask: dict[str, Any]) -> dict[str, Any]:
    """kneron_inference of one sample: .npz of [1, C, H, W] for each input in, outputs 0, 1, ... out.

    kind: onnx, bie or nef. order: the names of the outputs, in the order that is wanted; None asks for no order.
    """
    import ktc
    import numpy as np

    with np.load(ask["samples"], allow_pickle=False) as archive:
        arrays = [archive[name] for name in ask["inputs"]]
    arguments = {
        "input_names": ask["inputs"],
        f"{ask['kind']}_file": ask["file"],
        "platform": int(ask["platform"]),
        "data_type": "float",
    }
    if ask["order"] is not None:
        arguments["reordering"] = ask["order"]
    found, dropped = call("kneron_inference", ktc.kneron_inference, arrays, **arguments)
    if not isinstance(found, (list, tuple)) or not found:
        raise RefusedError("kneron_inference", f"it returned {type(found).__name__} {str(found)[:80]}")
    outputs = {str(index): np.asarray(array, np.float32) for index, array in enumerate(found)}
    np.savez(ask["outputs"], **outputs)
    return {"ordered": ask["order"] is not None and not dropped}


COMMANDS = {
    "start": start,
    "optimise": optimise,
    "evaluate": evaluate,
    "analyse": analyse,
    "compile": compile_nef,
    "simulate": simulate,
}


def answer(line: str) -> dict[str, Any]:
    """Do one command; a failure is an answer as well."""
    ask = json.loads(line)
    try:
        return {"ok": True, **COMMANDS[ask["do"]](ask)}
    except RefusedError as refused:
        return {"ok": False, "call": refused.call, "problem": str(refused)}
    except MemoryError:
        return {"ok": False, "call": ask["do"], "problem": "MemoryError"}
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "call": ask["do"], "problem": f"{type(error).__name__}: {error}"[:MESSAGE_LETTERS]}


def main() -> None:
    # The toolchain prints to standard output from Python and from C: the answers get a descriptor of their own.
    # And the commands: a helper that it starts must not read them.
    asked, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    # The working folder holds data, not code; and a module of this folder must not pass for one of the toolchain's.
    own = (Path.cwd(), Path(__file__).resolve().parent)
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() not in own]
    for line in asked:
        reply = json.dumps(answer(line))
        sys.stdout.flush()
        print(reply, file=answers, flush=True)


if __name__ == "__main__":
    main()
