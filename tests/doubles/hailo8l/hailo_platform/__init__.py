"""A strict stand-in for hailo_platform, HailoRT 4.23's Python package, on the .hef of this folder's compiler.

Names, order and messages as in hailo-ai/hailort, libhailort/bindings/python/platform/hailo_platform/pyhailort. Where
the real one reads past a buffer or crashes, this one raises. HAILORT_DOUBLE_FAILS=<call> fails there;
HAILORT_DOUBLE_OLD=1 is a runtime before create_infer_model(); HAILORT_DOUBLE_RENAMES=1 gives outputs other names.
"""

from hailo_platform.device import VDevice
from hailo_platform.values import HEF, FormatType, HailoRTException, HailoSchedulingAlgorithm, HailoStreamInterface
from hailo_platform.virtual_streams import ConfigureParams, InferVStreams, InputVStreamParams, OutputVStreamParams

NPUMAKE_DOUBLE = True
__version__ = "4.23.0"
__all__ = [
    "HEF",
    "NPUMAKE_DOUBLE",
    "ConfigureParams",
    "FormatType",
    "HailoRTException",
    "HailoSchedulingAlgorithm",
    "HailoStreamInterface",
    "InferVStreams",
    "InputVStreamParams",
    "OutputVStreamParams",
    "VDevice",
]
