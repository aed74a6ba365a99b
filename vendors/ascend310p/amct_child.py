"""The process that quantises with AMCT: config, quantize_model, calibration, save_model, all in one.

    python amct_child.py REQUEST.json       started by quantise.py, in a folder of its own

AMCT keeps between its calls what it has fused and measured, so they belong into one process; and its operators are
known to crash where they were built for another onnxruntime, so that this is not compile.py's process. The request
names the graph, the calibration tensors, the options, and float inputs on which to run the result; answer.json says
which call failed, and how.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from amct_session import AmctSession, check_signature, check_versions, import_amct, tools
from failure import VendorError

CONFIG, DEFINITION, MODIFIED, RECORD = "config.json", "definition.cfg", "modified.onnx", "record.txt"
PREFIX = "network"  # of the two files that save_model writes
DEPLOY, FAKE_QUANTISED = f"{PREFIX}_deploy_model.onnx", f"{PREFIX}_fake_quant_model.onnx"
BINS = 4096  # of hfmg's histogram: AMCT's default


def definition(request: dict[str, Any], batches: int) -> str:
    """AMCT's "simplified PTQ configuration", the only way to choose hfmg; protobuf's text format."""
    lines = [f"batch_num : {batches}", f"activation_offset : {str(request['activation_offset']).lower()}"]
    lines += [f'skip_layers : "{name}"' for name in request["skip_layers"]]
    lines += ["common_config : {", "    hfmg_quantize : {", f"        num_of_bins : {BINS}", "    }", "}"]
    return "\n".join(lines) + "\n"


class Quantisation:
    """AMCT's calls, in order. `call` is the one that is being made, for whoever reports a failure."""

    def __init__(self, request: dict[str, Any]):
        self.request = request
        self.call = "import"

    def _amct(self, amct: Any, name: str, *created: str, **arguments: Any) -> None:
        self.call = name
        check_signature(amct, name)
        getattr(amct, name)(**arguments)
        for file in created:
            if not Path(file).is_file() or not Path(file).stat().st_size:
                raise VendorError(f"AMCT's {name} returned and wrote no {file}", "see amct.log beside job.json")

    def run(self) -> dict[str, Any]:
        """Quantise; returns versions and warnings. Raises VendorError, or whatever AMCT raises."""
        amct = import_amct()
        request = self.request
        model, name = request["model"], request["input"]
        with np.load(request["calibration"], allow_pickle=False) as archive:
            batches = archive["batches"]
        if request["algorithm"] == "hfmg":
            Path(DEFINITION).write_text(definition(request, len(batches)), encoding="utf-8")
            chosen: dict[str, Any] = {"config_defination": DEFINITION}
        else:
            chosen = {
                "skip_layers": request["skip_layers"] or None,
                "batch_num": len(batches),
                "activation_offset": request["activation_offset"],
            }
        self._amct(amct, "create_quant_config", CONFIG, config_file=CONFIG, model_file=model, **chosen)
        self._amct(
            amct, "quantize_model", MODIFIED,
            config_file=CONFIG, model_file=model, modified_onnx_file=MODIFIED, record_file=RECORD,
        )  # fmt: skip
        self.call = "calibration"
        session = AmctSession(amct, Path(MODIFIED))
        for batch in batches:
            session.run({name: batch})
        del session
        if not Path(RECORD).is_file() or not Path(RECORD).stat().st_size:
            raise VendorError(
                f"AMCT wrote no {RECORD} in {len(batches)} batches of calibration",
                "its operators did not run: amct.log",
            )
        self._amct(
            amct, "save_model", DEPLOY, FAKE_QUANTISED,
            modified_onnx_file=MODIFIED, record_file=RECORD, save_path=PREFIX,
        )  # fmt: skip
        self.call = "fake-quantised network"
        self._run_on_samples(amct)
        warning = check_versions()
        return {"tools": tools(), "warnings": [] if warning is None or _is_double(amct) else [warning]}

    def _run_on_samples(self, amct: Any) -> None:
        """The fake-quantised network's outputs, float32 [N, ...] by name, as an .npz."""
        with np.load(self.request["samples"], allow_pickle=False) as archive:
            samples = archive["batches"]
        session = AmctSession(amct, Path(FAKE_QUANTISED))
        rows = [session.run({self.request["input"]: batch}) for batch in samples]
        np.savez(self.request["outputs"], **{key: np.concatenate([row[key] for row in rows]) for key in session.names})


def _is_double(amct: Any) -> bool:
    return bool(getattr(amct, "NPUMAKE_DOUBLE", False))


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    quantisation = Quantisation(request)
    try:
        if _is_double(import_amct()) != request["double"]:
            found = "the real one, and a stand-in is asked for" if request["double"] else "a stand-in"
            raise VendorError(f"the AMCT found here is {found}", "compare DOUBLE= and PYTHONPATH")
        answer: dict[str, Any] = {"ok": True, **quantisation.run()}
    except VendorError as refused:
        answer = {"ok": False, "call": quantisation.call, "problem": refused.message, "hint": refused.hint}
    except Exception as error:
        traceback.print_exc()
        words = str(error).strip().splitlines() or [type(error).__name__]
        answer = {"ok": False, "call": quantisation.call, "problem": f"{type(error).__name__}: {words[0]}", "hint": ""}
    Path("answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
