"""What ncnn's layers carry: their parameters and their weights, as ncnn2int8's writer stores them.

Each layer is one line of words in the order of writing:

    16=0      integer parameter 16 with default 0        written when it differs from the default
    18=0.0    float parameter 18 with default 0.0        likewise, in the form %e
    11<1      integer parameter 11, default: the value of parameter 1; written when it differs from that value
    3~0       integer parameter 3, default: the value of parameter 0; written when it is not 0
    10%       array of floats                            written when not empty
    9#        array of integers                          written when not empty
    19"       text                                       written when not empty

Facts: ncnn release 20261020, src/layer/*.cpp (load_param: numbers and defaults), and upstream tools/modelwriter.h
(ModelWriter::save: which parameters are written, when, and in which order).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

FEATURE_MASK = 31  # parameter that any layer may carry; ncnn2int8 does not write it

LARGEST = float(np.finfo(np.float32).max)
_KERNEL = "1=0 11<1 2=1 12<2 3=1 13<3 4=0 14<4 15<4 16<14"
_KERNEL_1D = "1=0 2=1 3=1 4=0 15<4"
_KERNEL_3D = "1=0 11<1 21<1 2=1 12<2 22<2 3=1 13<3 23<3 4=0 14<4 24<4 15<4 16<14 17<24"
_ACTIVATION = "9=0 10%"
_POOLING = "4=0 5=0 6=0 7=0 8=0"

_LINES = {
    "BatchNorm": "0=0 1=0.0",
    "Bias": "0=0",
    "BinaryOp": "0=0 1=0 2=0.0",
    "CELU": "0=1.0",
    "Clip": f"0={-LARGEST!r} 1={LARGEST!r}",
    "Concat": "0=0",
    "Convolution": f"0=0 {_KERNEL} 18=0.0 5=0 6=0 8=0 {_ACTIVATION} 19=0",
    "Convolution1D": f"0=0 {_KERNEL_1D} 18=0.0 5=0 6=0 {_ACTIVATION} 19=0",
    "Convolution3D": f"0=0 {_KERNEL_3D} 18=0.0 5=0 6=0 {_ACTIVATION}",
    "ConvolutionDepthWise": f"0=0 {_KERNEL} 18=0.0 5=0 6=0 7=1 8=0 {_ACTIVATION} 19=0",
    "ConvolutionDepthWise1D": f"0=0 {_KERNEL_1D} 18=0.0 5=0 6=0 7=1 {_ACTIVATION} 19=0",
    "ConvolutionDepthWise3D": f"0=0 {_KERNEL_3D} 18=0.0 5=0 6=0 7=1 {_ACTIVATION}",
    "CopyTo": "0=0 1=0 13=0 2=0 9# 11#",
    "Crop": '0=0 1=0 13=0 2=0 3=0 4=0 14=0 5=0 6=0 7=0 15=0 8=0 9# 10# 11# 19" 20" 21"',
    "CumulativeSum": "0=0",
    "Deconvolution": f"0=0 {_KERNEL} 18=0 19<18 20=0 21<20 5=0 6=0 {_ACTIVATION} 28=0",
    "Deconvolution1D": f"0=0 {_KERNEL_1D} 18=0 20=0 5=0 6=0 {_ACTIVATION} 28=0",
    "Deconvolution3D": f"0=0 {_KERNEL_3D} 18=0 19<18 20<18 25=0 26<25 27<25 5=0 6=0 {_ACTIVATION}",
    "DeconvolutionDepthWise": f"0=0 {_KERNEL} 18=0 19<18 20=0 21<20 5=0 6=0 7=1 {_ACTIVATION} 28=0",
    "DeconvolutionDepthWise1D": f"0=0 {_KERNEL_1D} 18=0 20=0 5=0 6=0 7=1 {_ACTIVATION} 28=0",
    "DeconvolutionDepthWise3D": f"0=0 {_KERNEL_3D} 18=0 19<18 20<18 25=0 26<25 27<25 5=0 6=0 7=1 {_ACTIVATION}",
    "DeformableConv2D": f"0=0 {_KERNEL} 5=0 6=0 {_ACTIVATION}",
    "DetectionOutput": "0=0 1=0.05 2=300 3=100 4=0.5 5=0.1 6=0.1 7=0.2 8=0.2",
    "Diag": "0=0",
    "Dropout": "0=1.0",
    "ELU": "0=0.1",
    "Eltwise": "0=0 1%",
    "Embed": "0=0 1=0 2=0 3=0 18=0",
    "Exp": "0=-1.0 1=1.0 2=0.0",
    "ExpandDims": "3#",
    "Fold": f"{_KERNEL} 20=0 21<20",
    "GELU": "0=0",
    "GLU": "0=0",
    "GRU": "0=0 1=0 2=0 8=0",
    "Gemm": "0=1.0 1=1.0 2=0 3=0 4=0 5=0 6=0 7=0 8=0 9=0 10=0 11=0 12=0 13=0 14=0 18=0 20=0 21=0 22=0",
    "GridSample": "0=1 1=1 2=0 3=0",
    "GroupNorm": "0=1 1=0 2=0.001 3=1",
    "HardSigmoid": "0=0.2 1=0.5",
    "HardSwish": "0=0.2 1=0.5",
    "InnerProduct": f"0=0 1=0 2=0 8=0 {_ACTIVATION}",
    "Input": "0=0 1=0 2=0",
    "InstanceNorm": "0=0 1=0.001 2=1",
    "Interp": '0=0 1=1.0 2=1.0 3=0 4=0 5=0 6=0 9"',
    "LRN": "0=0 1=5 2=1.0 3=0.75 4=1.0",
    "LSTM": "0=0 1=0 2=0 3~0 8=0",
    "LayerNorm": "0=0 1=0.001 2=1",
    "Log": "0=-1.0 1=1.0 2=0.0",
    "MVN": "0=0 1=0 2=0.0001",
    "MatMul": "0=0",
    "MemoryData": "0=0 1=0 2=0 11=0",
    "MultiHeadAttention": "0=0 1=1 2=0 3~0 4~0 5=0 6=scale 18=0",
    "Normalize": "0=0 1=0 2=0.0001 3=0 4=1 9=0",
    "PReLU": "0=0",
    "PSROIPooling": "0=7 1=7 2=0.0625 3=0",
    "Padding": "0=0 1=0 2=0 3=0 4=0 5=0.0 6=0 7=0 8=0",
    "Permute": "0=0",
    "PixelShuffle": "0=1 1=0",
    "Pooling": f"0=0 1=0 11<1 2=1 12<2 3=0 13<3 14<3 15<13 {_POOLING} 18<8",
    "Pooling1D": f"0=0 1=0 2=1 3=0 14<3 {_POOLING}",
    "Pooling3D": f"0=0 1=0 11<1 21<1 2=1 12<2 22<2 3=0 13<3 23<3 14<3 15<13 16<23 {_POOLING} 18<8 28<8",
    "Power": "0=1.0 1=1.0 2=0.0",
    "PriorBox": "0% 1% 2% 3=0.1 4=0.1 5=0.2 6=0.2 7=1 8=0 9=0 10=0 11=-233.0 12=-233.0 13=0.0",
    "Proposal": "0=16 1=16 2=6000 3=300 4=0.7 5=16",
    "RMSNorm": "0=0 1=0.001 2=1",
    "RNN": "0=0 1=0 2=0 8=0",
    "ROIAlign": "0=0 1=0 2=1.0 3=0 4=0 5=0",
    "ROIPooling": "0=0 1=0 2=1.0",
    "ReLU": "0=0.0",
    "Reduction": "0=0 1=1 2=1.0 3# 4=0 5=axes",
    "Reorg": "0=1 1=0",
    "Reshape": '0=-233 1=-233 11=-233 2=-233 6"',
    "RotaryEmbed": "0=0",
    "SDPA": "5=0 6=0.0 7=0 18=0",
    "Scale": "0=0 1=0",
    "ShuffleChannel": "0=1 1=0",
    "Slice": "0# 1=0",
    "Softmax": "0=0 1=axis",
    "Squeeze": "0=0 1=0 11=0 2=0 3#",
    "Threshold": "0=0.0",
    "UnaryOp": "0=0",
    "Unfold": f"{_KERNEL} 18=0.0",
    "YoloDetectionOutput": "0=20 1=5 2=0.01 3=0.45 4%",
    "Yolov3DetectionOutput": "0=20 1=5 2=0.01 3=0.45 4% 5# 6%",
}

# Layers without parameters and without weights.
_PLAIN = (
    "AbsVal",
    "BNLL",
    "DeepCopy",
    "Erf",
    "Flatten",
    "Mish",
    "Noop",
    "Sigmoid",
    "Softplus",
    "Split",
    "Swish",
    "TanH",
)

# Layers that ncnn runs, and whose parameters ncnn2int8 does not write: the layer that it leaves behind has every
# parameter at its default. An ncnn2int8 file with one of them is a different network.
UNWRITTEN = (
    *("ArgMax", "Cast", "Einsum", "Flip", "InverseSpectrogram", "Packing"),
    *("SELU", "SPP", "Shrink", "Spectrogram", "StatisticsPooling", "Tile"),
)
_LINES.update(dict.fromkeys((*_PLAIN, *UNWRITTEN), ""))

# Parameters that ncnn reads and that say nothing about the written file: MemoryData's way of storing its values
# (they are always written as plain floats), and the marks of repaired meanings that the writer sets itself.
NOT_STORED = {"MemoryData": {21}}


@dataclass(frozen=True)
class Parameter:
    """One parameter: kind is "int", "float", "ints", "floats", "text", or a rule of a single layer type."""

    number: int
    kind: str
    default: int | float | None = None
    like: int | None = None  # the parameter whose value is the default
    unless_zero: bool = False  # with `like`: written when not 0, even when equal


_WORD = re.compile(r"(?P<number>\d+)(?:(?P<array>[#%\"])|<(?P<like>\d+)|~(?P<unlike>\d+)|=(?P<default>.+))\Z")
_ARRAYS = {"#": "ints", "%": "floats", '"': "text"}


def _parameter(word: str) -> Parameter:
    match = _WORD.match(word)
    number = int(match["number"])
    if match["array"]:
        return Parameter(number, _ARRAYS[match["array"]])
    if match["like"]:
        return Parameter(number, "int", like=int(match["like"]))
    if match["unlike"]:
        return Parameter(number, "int", like=int(match["unlike"]), unless_zero=True)
    text = match["default"]
    if text.isalpha():
        return Parameter(number, text)
    if "." in text or "e" in text:
        return Parameter(number, "float", default=float(text))
    return Parameter(number, "int", default=int(text))


LAYERS: dict[str, list[Parameter]] = {name: [_parameter(w) for w in line.split()] for name, line in _LINES.items()}
