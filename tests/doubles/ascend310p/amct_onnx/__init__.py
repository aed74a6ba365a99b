"""A strict stand-in for AMCT (ONNX): create_quant_config, quantize_model, calibration in onnxruntime, save_model.

Names, defaults and order: "AMCT (ONNX)" of CANN 8.5 (hiascend.com, devaids/amct) and Huawei's public sample
(Ascend/samples, 9_amct/amct_onnx/resnet-101). All of it in one process and in this order, or AssertionError. The ranges
come from what onnxruntime is really fed; weights become int8 per channel, activations int8 with or without offset.
AMCT_DOUBLE_FAILS: a function's name (raises), "crash" (aborts in save_model), "record" (writes none), "so" (AMCT_SO is
None).
"""

from __future__ import annotations

import os

import onnxruntime

from amct_onnx import recording
from amct_onnx.quantisation import create_quant_config, quantize_model, save_model

__all__ = ["AMCT_SO", "NPUMAKE_DOUBLE", "create_quant_config", "quantize_model", "save_model"]

NPUMAKE_DOUBLE = True
# A SessionOptions with AMCT's operators in it; None where they were not built.
AMCT_SO = None if os.environ.get("AMCT_DOUBLE_FAILS") == "so" else onnxruntime.SessionOptions()
recording.watch(AMCT_SO)
