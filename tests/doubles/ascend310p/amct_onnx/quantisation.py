"""create_quant_config, quantize_model and save_model of the stand-in for AMCT (ONNX)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
from fake_quantisation import Format, Range, fake_quantised, observe

from amct_onnx.recording import expected, fed, mark

QUANTISABLE = ("Conv", "ConvTranspose", "AveragePool", "Gemm", "MatMul")  # AMCT, layers that support quantisation
# AMCT, simplified PTQ configuration: the fields that are used here; num_of_bins is one of four.
DEFINITION = re.compile(
    r"batch_num : (?P<batch>[1-9]\d*)\nactivation_offset : (?P<offset>true|false)\n"
    r"(?P<skip>(?:skip_layers : \"[^\"\n]+\"\n)*)"
    r"common_config : \{\n\s*hfmg_quantize : \{\n\s*num_of_bins : (?P<bins>1024|2048|4096|8192)\n\s*\}\n\}\n"
)
SHRINKING = np.linspace(1.0, 0.9, 21)  # of the whole range: what hfmg is taken to choose from
_done: dict[str, str] = {}


def _fails(name: str) -> None:
    if os.environ.get("AMCT_DOUBLE_FAILS") == name:
        raise RuntimeError(f"[AMCT]:[{name}] do as AMCT_DOUBLE_FAILS says")


def _check_paths(*paths) -> None:
    assert all(isinstance(path, str) for path in paths), "a path is a str"


def _largest(seen: Range, _form: Format) -> tuple[float, float]:
    """ifmr searches around the largest value; here it stays there."""
    return seen.low, seen.high


def _least_squares(seen: Range, form: Format) -> tuple[float, float]:
    """hfmg: the range whose rounding costs least on the values that were seen."""
    values = np.concatenate([seen.values, [seen.low, seen.high]]).astype(np.float64)
    best = (np.inf, seen.low, seen.high)
    for factor in SHRINKING:
        low, high = seen.low * factor, seen.high * factor
        scale, zero, lowest, highest = form.grid(np.array(low), np.array(high))
        rounded = (np.clip(np.rint(values / scale) + zero, lowest, highest) - zero) * scale
        best = min(best, (float(((rounded - values) ** 2).sum()), low, high))
    return best[1], best[2]


def create_quant_config(
    config_file,
    model_file,
    skip_layers=None,
    batch_num=1,
    activation_offset=True,
    config_defination=None,
    updated_model=None,
):
    """Write the JSON of how each layer is quantised. Raises ValueError for a layer that the graph does not have."""
    _fails("create_quant_config")
    assert updated_model is None, "updated_model is not asked for here"
    _check_paths(config_file, model_file)
    algorithm = "ifmr"
    if config_defination is not None:
        # AMCT: with a configuration file the other three arguments do not count.
        assert skip_layers is None and batch_num == 1 and activation_offset is True, "arguments that do not count"
        found = DEFINITION.fullmatch(Path(config_defination).read_text())
        assert found, "the simplified configuration is not understood"
        batch_num, activation_offset, algorithm = int(found["batch"]), found["offset"] == "true", "hfmg"
        skip_layers = re.findall(r'"([^"]+)"', found["skip"])
    assert type(batch_num) is int and batch_num >= 1, "batch_num"
    assert isinstance(activation_offset, bool), "activation_offset"
    assert skip_layers is None or isinstance(skip_layers, list), "skip_layers"
    model = onnx.load(model_file)
    # AMCT: create_quant_config reads graphs of opset 11; operators of 8 to 14 are handled, so a warning for the others.
    assert 8 <= model.opset_import[0].version <= 14, "the opset"
    layers = {node.name: node.op_type for node in model.graph.node}
    assert len(layers) == len(model.graph.node) and all(layers), "nodes without a name of their own"
    for name in skip_layers or []:
        if layers.get(name) not in QUANTISABLE:
            raise ValueError(f"[AMCT] skip_layers: {name} does not exist or is not quantizable")
    quantised = [name for name, kind in layers.items() if kind in QUANTISABLE and name not in (skip_layers or [])]
    if not quantised:
        raise ValueError("[AMCT] no layer to quantize")
    content = {
        "batch_num": batch_num,
        "activation_offset": activation_offset,
        "algorithm": algorithm,
        "layers": quantised,
        "model": model_file,
    }
    Path(config_file).write_text(json.dumps(content))


def quantize_model(config_file, model_file, modified_onnx_file, record_file, weight_fakequant=True):
    """Write the network to calibrate. From here on this process has to do the rest."""
    _fails("quantize_model")
    assert weight_fakequant is True, "weights that are not rounded are not asked for here"
    _check_paths(config_file, model_file, modified_onnx_file, record_file)
    content = json.loads(Path(config_file).read_text())
    assert content["model"] == model_file, f"the configuration is for {content['model']}"
    model = onnx.load(model_file)
    onnx.save(mark(model, "modified"), modified_onnx_file)
    fed.clear()
    expected.update(batches=content["batch_num"], record=record_file)
    _done.update(model=model_file, config=config_file, modified=modified_onnx_file, record=record_file)


def save_model(modified_onnx_file, record_file, save_path):
    """Write <save_path>_deploy_model.onnx and _fake_quant_model.onnx."""
    _fails("save_model")
    if os.environ.get("AMCT_DOUBLE_FAILS") == "crash":
        os.abort()
    _check_paths(modified_onnx_file, record_file, save_path)
    # Public reports of AMCT 0.23: what quantize_model found out is kept in the process, not in the file.
    assert _done.get("modified") == modified_onnx_file and _done.get("record") == record_file, "not in this process"
    if not Path(record_file).is_file():
        raise RuntimeError(f"[AMCT] {record_file} lacks layers: run at least {expected['batches']} batches")
    assert len(fed) == expected["batches"], f"{len(fed)} batches were fed, and {expected['batches']} announced"
    content = json.loads(Path(_done["config"]).read_text())
    model = onnx.load(_done["model"])
    nodes = {node.name: node for node in model.graph.node}
    chosen = [nodes[name] for name in content["layers"]]
    seen = observe(model, fed)
    activations = Format(bits=8, symmetric=not content["activation_offset"])
    find = _largest if content["algorithm"] == "ifmr" else _least_squares
    ranges = {node.input[0]: find(seen[node.input[0]], activations) for node in chosen}
    others = [
        node.name for node in model.graph.node if node.op_type in QUANTISABLE and node.name not in content["layers"]
    ]
    rounded = fake_quantised(
        model,
        ranges,
        activations,
        Format(bits=8, symmetric=True, per_channel=True),
        skip=others,
    )
    onnx.save(mark(rounded, "deploy"), f"{save_path}_deploy_model.onnx")
    onnx.save(mark(rounded, "fake"), f"{save_path}_fake_quant_model.onnx")
