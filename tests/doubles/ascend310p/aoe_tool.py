"""A strict stand-in for `aoe`: tunes nothing, but only on a machine that says it has an NPU (ASCEND_DOUBLE_NPU=1).

Rules: "AOE Instructions" of CANN 8.0 (hiascend.com, aoeep_16_0xx): --job_type 1 tunes subgraphs, 2 operators; both
measure on an NPU; TUNE_BANK_PATH has to exist (environment variable reference, envref_07_0104). ASCEND_DOUBLE_FAILS=aoe
fails.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from atc_tool import arguments, load_model, profiles, required, shapes

KNOWN = {"framework", "model", "job_type", "output", "input_format", "input_shape", "dynamic_image_size",
         "dynamic_batch_size"}  # fmt: skip


def main() -> None:
    given = arguments(sys.argv[1:])
    if os.environ.get("ASCEND_DOUBLE_NPU") != "1":
        print("[ERROR] [Aoe] E40021: no device: rtGetDeviceCount failed")
        sys.exit(1)
    if os.environ.get("ASCEND_DOUBLE_FAILS") == "aoe" or set(given) - KNOWN:
        print(f"[ERROR] [Aoe] E40001: {sorted(set(given) - KNOWN)}")
        sys.exit(1)
    required(given, "framework", {"5"})
    required(given, "input_format", {"NCHW"})
    kind = required(given, "job_type", {"1", "2"})
    required(given, "output")
    model = load_model(required(given, "model"))
    profiles(given, shapes(given, model)[1])
    bank = Path(os.environ.get("TUNE_BANK_PATH", "/nowhere"))
    if not bank.is_absolute() or not bank.is_dir():
        print("[ERROR] [Aoe] E40002: TUNE_BANK_PATH is no folder")
        sys.exit(1)
    (bank / f"job_{kind}").write_text("tuned")
    print("[Aoe]Aoe process finished,cost time 1s.")


if __name__ == "__main__":
    main()
