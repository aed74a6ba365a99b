"""Matrix products and recurrent layers: ncnn2int8 quantises their weights without a table of scales.

Scales are 127 / (largest magnitude), of a row or of the whole matrix. Where the tool looks at less than it scales
(it then clips the rest), so does this module: the file must be the tool's.
Fact: upstream tools/quantize/ncnn2int8.cpp (quantize_rnn, _lstm, _gru, _embed, _gemm, _multiheadattention).
"""

from __future__ import annotations

import numpy as np
from failure import VendorError
from graph_text import effective_parameters
from param_file import Layer
from rounding import to_int8

QUANTIZED_WITHOUT_TABLE = ("RNN", "LSTM", "GRU", "Embed", "Gemm", "MultiHeadAttention")


def _row_scales(rows: np.ndarray) -> np.ndarray:
    """127 / largest magnitude of each row; 1 for a row of zeros."""
    largest = np.abs(rows).max(axis=1)
    with np.errstate(divide="ignore"):
        return np.where(largest == 0, np.float32(1), np.float32(127) / largest).astype(np.float32)


def quantize_matrix_layer(layer: Layer) -> None:
    """Make the layer's weights int8 in place and add its scales as weights named scales_*, in storing order."""
    if layer.type == "Embed":
        _quantize_embed(layer)
    elif layer.type == "Gemm":
        _quantize_gemm(layer)
    elif layer.type == "MultiHeadAttention":
        _quantize_attention(layer)
    else:
        _quantize_recurrent(layer)


def _quantize_embed(layer: Layer) -> None:
    rows = layer.weights["weight"][None]
    scale = _row_scales(rows)
    layer.weights["weight"] = to_int8(rows, scale)[0]
    layer.weights["scales_weight"] = scale
    layer.parameters[18] = 2


def _quantize_gemm(layer: Layer) -> None:
    value = effective_parameters(layer)
    rows, columns, inner = int(value[7]), int(value[8]), int(value[9])
    if "A" in layer.weights:
        a = layer.weights["A"]
        a = a.reshape(inner, rows).T if value[2] == 1 else a.reshape(rows, inner)
        layer.parameters[2] = 0
        scales = _row_scales(a)
        layer.weights["A"] = to_int8(a, scales).reshape(-1)
        layer.weights["scales_A"] = scales
    if "B" in layer.weights:
        b = layer.weights["B"]
        # One scale for all of B. Stored transposed already, the tool measures its first row only; transposed by the
        # tool itself, it measures all.
        if value[3] == 0:
            b = np.ascontiguousarray(b.reshape(inner, columns).T)
            scale, b = _row_scales(b.reshape(1, -1)), b.reshape(1, -1)
        else:
            b = b.reshape(columns, inner)
            scale = _row_scales(b[:1])
        layer.parameters[3] = 1
        layer.weights["B"] = to_int8(b, scale).reshape(-1)
        layer.weights["scales_B"] = scale
    layer.parameters[18] = 2


def _quantize_attention(layer: Layer) -> None:
    value = effective_parameters(layer)
    embedding = int(value[0])
    for name in ("query", "key", "value"):
        rows = layer.weights[f"{name}_weight"].reshape(embedding, -1)
        scales = _row_scales(rows)
        layer.weights[f"{name}_weight"] = to_int8(rows, scales).reshape(-1)
        layer.weights[f"scales_{name}"] = scales
    output = layer.weights["output_weight"][None]
    scale = _row_scales(output)
    layer.weights["output_weight"] = to_int8(output, scale)[0]
    layer.weights["scales_output"] = scale
    layer.parameters[18] = 2


def _quantize_recurrent(layer: Layer) -> None:
    value = effective_parameters(layer)
    directions = 2 if value[2] == 2 else 1
    hidden = int(value[3] if layer.type == "LSTM" else value[0])
    rows = hidden * {"RNN": 1, "LSTM": 4, "GRU": 3}[layer.type] * directions
    inputs = layer.weights["input"].reshape(rows, -1)
    recurrent = layer.weights["hidden"].reshape(rows, -1)
    size = inputs.shape[1]
    if size > recurrent.shape[1]:
        raise VendorError(
            f"layer {layer.name} ({layer.type}) has more inputs ({size}) than outputs ({recurrent.shape[1]}): "
            "ncnn2int8 reads past its weights there, so that its int8 file is not defined",
            "use PRECISION=fp32 for this network",
        )
    # The tool measures as many recurrent weights as there are inputs; the rest may clip.
    scales = {"input": np.abs(inputs).max(axis=1), "hidden": np.abs(recurrent[:, :size]).max(axis=1)}
    for name, matrix in (("input", inputs), ("hidden", recurrent)):
        if (scales[name] == 0).any():
            raise VendorError(f"layer {layer.name}: a row of its {name} weights is all zero", "use PRECISION=fp32")
        row_scales = (np.float32(127) / scales[name]).astype(np.float32)
        layer.weights[name] = to_int8(matrix, row_scales).reshape(-1)
        layer.weights[f"scales_{name}"] = row_scales
    layer.parameters[8] = 2
