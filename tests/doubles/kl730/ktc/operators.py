"""Which operators run on which NPU [appendix/operators.md]: Y in the column of the chip."""

ALL = ("520", "720", "530", "630", "730")
LATER = ("530", "630", "730")
NOT_520 = ("720", *LATER)
OPERATORS = {
    **dict.fromkeys(
        ["Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "DepthToSpace", "Gather", "Gemm"], ALL
    ),
    **dict.fromkeys(
        ["GlobalAveragePool", "GlobalMaxPool", "LeakyRelu", "MaxPool", "Neg", "PRelu", "Pad", "ReduceMax"], ALL
    ),
    **dict.fromkeys(["ReduceSum", "Relu", "Resize", "Sub", "Upsample"], ALL),
    **dict.fromkeys(["ConvTranspose", "Exp", "Expand", "Flatten", "MatMul", "MaxRoiPool", "Mul", "Pow"], NOT_520),
    **dict.fromkeys(["ReduceMean", "Reshape", "Sigmoid", "Slice", "Tanh", "Transpose"], NOT_520),
    **dict.fromkeys(["Div", "Elu", "Erf", "HardSigmoid", "Reciprocal", "Softmax", "SpaceToDepth", "Sqrt"], LATER),
    **dict.fromkeys(["Abs", "InstanceNormalization", "LayerNormalization", "Log", "Loop", "Max"], ("730",)),
    **dict.fromkeys(["ReduceMin", "Sign", "Split"], ("730",)),
}


def on_cpu(operator: str, platform: str) -> bool:
    return operator != "Constant" and platform not in OPERATORS.get(operator, ())
