"""A strict stand-in for Kneron's toolchain (ktc, in the image kneron/toolchain), from its public documents alone.

It takes what the documents allow and raises at all else, and computes something real: the network in onnxruntime with
simulated integers. rules.py names the documents; every rule cites its own.
"""

from ktc import onnx_optimizer
from ktc.compiler import compile
from ktc.model_config import ModelConfig
from ktc.simulator import kneron_inference

NPUMAKE_DOUBLE = True

__all__ = ["NPUMAKE_DOUBLE", "ModelConfig", "compile", "kneron_inference", "onnx_optimizer"]
