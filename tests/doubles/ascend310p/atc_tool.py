"""A strict stand-in for `atc`: the documented options, in the documented combinations, or an error and exit code 255.

Each rule names its source: "ATC" is the ATC tool's reference of CANN 8.5 (hiascend.com, atlasatcparam_16_00xx), "GE"
the Graph Engine's public source. Where the real one ignores or guesses, this one refuses. What it writes computes the
same network in onnxruntime, in float16. ASCEND_DOUBLE_FAILS: "atc" (exit code and E19010), "hang" (until it is
killed), "silent" (success line, no file), "abort", "no line" (a file, no success line), "empty" (an empty .om), "json"
(--mode=1 fails), "outputs" (an .om whose outputs are others).
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from aipp_file import read_aipp
from om_description import write_description
from om_file import Om, output_shapes, read_om, run_network

SUCCESS = "ATC run success, welcome to the next use."
CONVERT = {"framework", "model", "output", "input_format", "input_shape", "soc_version", "precision_mode", "log",
           "output_type", "insert_op_conf", "dynamic_image_size", "dynamic_batch_size", "mode"}  # fmt: skip
DUMP = {"mode", "om", "json"}
SOCS = {"Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310B1", "Ascend310B4"}  # ATC, --soc_version
PRECISIONS = {"force_fp16", "allow_fp32_to_fp16", "allow_mix_precision", "must_keep_origin_dtype", "force_fp32"}
PATH_LETTERS = re.compile(r"[A-Za-z0-9_./-]+")  # ATC, --model and --output: what a path may hold
FAILS = os.environ.get("ASCEND_DOUBLE_FAILS", "")


def fail(code: str, text: str) -> NoReturn:
    """As atc fails: the code, the text, a line of its own, and a non-zero exit."""
    print("ATC start working now, please wait for a moment.\n...\nATC run failed, Please check the detail log")
    print(f"{code}: {text}")
    sys.exit(255)


def arguments(words: list[str]) -> dict[str, str]:
    """--key=value or --key value; "-" and "_" in a key are the same (GE, atc's flags). A key twice is refused."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            fail("E10007", f"[{word}] is no option")  # an unquoted ";" or a space ends up here
        key, separator, value = word[2:].partition("=")
        if not separator:
            if not rest:
                fail("E10007", f"--{key} has no value")
            value = rest.pop(0)
        key = key.replace("-", "_")
        if key in found:
            fail("E10007", f"--{key} is given twice")
        found[key] = value
    return found


def required(given: dict[str, str], key: str, allowed: set[str] | None = None) -> str:
    if key not in given:
        fail("E10007", f"[--{key}] is required")
    if allowed is not None and given[key] not in allowed:
        fail("E10001", f"Value [{given[key]}] for parameter [--{key}] is invalid. Reason: not in {sorted(allowed)}")
    return given[key]


def load_model(name: str) -> onnx.ModelProto:
    if not PATH_LETTERS.fullmatch(name):
        fail("E10001", f"--model [{name}] holds other characters than letters, digits, _ - . /")
    try:
        model = onnx.load(name)
        onnx.checker.check_model(model)
    except Exception as error:
        fail("E16002", f"Failed to read the ONNX model {name}: {str(error).splitlines()[0]}")
    if len(model.opset_import) != 1:  # public reports: E16005 from exporters that add a second domain
        fail("E16005", f"The model has [{len(model.opset_import)}] [--domain_version] fields, but only one is allowed")
    if not 7 <= model.opset_import[0].version <= 18:  # ATC, ONNX operators: opset to 18 in CANN 8
        fail("E19010", f"No parser is registered for Op [ai.onnx::{model.opset_import[0].version}::Conv]")
    if model.ir_version > 8:
        fail("E16002", f"IR version {model.ir_version}")
    return model


def shapes(given: dict[str, str], model: onnx.ModelProto) -> tuple[str, list[int]]:
    """--input_shape="name:n,c,h,w" of the one input (ATC, --input_shape): a name of the graph, -1 for what is free."""
    text = required(given, "input_shape")
    name, _, numbers = text.rpartition(":")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    if set(inputs) != {name}:
        fail("E10001", f"--input_shape names [{name}], the model's inputs are {sorted(inputs)}")
    if not re.fullmatch(r"(-1|[1-9]\d*)(,(-1|[1-9]\d*)){3}", numbers):
        fail("E10001", f"--input_shape [{text}]")
    shape = [int(number) for number in numbers.split(",")]
    for index, dimension in enumerate(inputs[name].type.tensor_type.shape.dim):
        if dimension.dim_value and shape[index] not in (-1, dimension.dim_value):
            fail("E10001", f"--input_shape [{text}] is not the model's own")
        # Fixed in the model and free outside: the real one goes on, with shapes in between that may be wrong.
        if dimension.dim_value and shape[index] == -1:
            fail("E10001", f"--input_shape [{text}]: the model fixes dimension {index} at {dimension.dim_value}")
    return name, shape


def profiles(given: dict[str, str], shape: list[int]) -> tuple[list[list[int]], list[int]]:
    """--dynamic_image_size or --dynamic_batch_size, one of them, 2 to 100 profiles, at the free places (ATC)."""
    if "dynamic_image_size" in given and "dynamic_batch_size" in given:
        fail("E10009", "dynamic_batch_size, dynamic_image_size and dynamic_dims are mutually exclusive")
    sizes, batches = [], []
    if text := given.get("dynamic_image_size"):
        if not re.fullmatch(r"[1-9]\d*,[1-9]\d*(;[1-9]\d*,[1-9]\d*)*", text):
            fail("E10001", f"--dynamic_image_size [{text}]")
        sizes = [[int(number) for number in pair.split(",")] for pair in text.split(";")]
        if shape[2:] != [-1, -1] or -1 in shape[:2]:
            fail("E10001", "--dynamic_image_size: height and width, and only they, have to be -1 in --input_shape")
    if text := given.get("dynamic_batch_size"):
        if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
            fail("E10001", f"--dynamic_batch_size [{text}]")
        batches = [int(number) for number in text.split(",")]
        if shape[0] != -1 or -1 in shape[1:]:
            fail("E10001", "--dynamic_batch_size: the batch, and only it, has to be -1 in --input_shape")
    for entries in (sizes, batches):
        if entries and (not 2 <= len(entries) <= 100 or len({str(entry) for entry in entries}) != len(entries)):
            fail("E10035", "2 to 100 different profiles")
    if -1 in shape and not sizes and not batches:
        fail("E10001", "a shape range: its .om would be a dynamic one with a name of its own; not asked for here")
    return sizes, batches


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether it is what AMCT's save_model wrote to be deployed (see amct_onnx of these doubles)."""
    return any(entry.key == "amct_onnx double" and entry.value == "deploy" for entry in model.metadata_props)


def convert(given: dict[str, str]) -> None:
    if unknown := sorted(set(given) - CONVERT):
        fail("E10007", f"unknown option --{unknown[0]}")
    required(given, "framework", {"5"})
    required(given, "input_format", {"NCHW"})
    soc = required(given, "soc_version", SOCS)
    required(given, "precision_mode", PRECISIONS)
    required(given, "output_type", {"FP32", "FP16"})
    required(given, "log", {"error", "info", "debug", "warning", "null"})
    model = load_model(required(given, "model"))
    name, shape = shapes(given, model)
    sizes, batches = profiles(given, shape)
    if any(entry.key == "amct_onnx double" and entry.value != "deploy" for entry in model.metadata_props):
        fail("E19010", "No parser is registered for Op [FakeQuant]: give the deploy model")
    if is_quantised(model):
        # AMCT: "quantized models do not support dynamic shapes", nor precision modes that keep float32.
        if sizes or batches:
            fail("E10001", "a quantized model does not take dynamic profiles")
        if given["precision_mode"] not in ("force_fp16", "allow_fp32_to_fp16", "allow_mix_precision"):
            fail("E10001", "a quantized model does not take this --precision_mode")
    header_input: dict[str, Any] = {"name": name, "shape": shape, "pixels": False, "aipp": None}
    if path := given.get("insert_op_conf"):
        try:
            header_input |= {"pixels": True, "aipp": read_aipp(Path(path).read_text(), shape, bool(sizes))}
        except (OSError, ValueError) as error:
            fail("E10001", f"--insert_op_conf: {error}")
    every = [(batch, tuple(size)) for size in sizes or [shape[2:]] for batch in batches or [shape[0]]]
    at = every[0]
    try:
        for at in every:
            output_shapes(model, name, (at[0], shape[1], *at[1]))
        if len(every) > 1:  # shape inference believes a constant in a Reshape: only running it shows
            at = max(every, key=lambda profile: profile[0] * profile[1][0] * profile[1][1])
            run_network(model, name, np.zeros((at[0], shape[1], *at[1]), np.float32))
    except Exception as error:
        fail("E19999", f"infershape failed at {at[1]}: {str(error).splitlines()[0]}")
    output = required(given, "output")
    if not PATH_LETTERS.fullmatch(output) or not Path(output).parent.is_dir():
        fail("E10001", f"--output [{output}] is no path, or its folder is missing")
    makers = {result: node.name for node in model.graph.node for result in node.output}
    outputs = [{"node": makers[value.name], "name": value.name} for value in model.graph.output]
    if FAILS == "outputs":
        outputs = [{"node": one["node"], "name": f"{one['name']}_fused"} for one in outputs]
    command = "atc " + " ".join(f"--{key}={value}" for key, value in given.items())
    header = {"soc": soc, "command": command, "input": header_input, "sizes": sizes, "batches": batches}
    if FAILS == "silent":
        return
    if FAILS == "empty":
        Path(f"{output}.om").touch()
        return
    Om(header | {"outputs": outputs}, model).write(Path(f"{output}.om"))


def main() -> None:
    # Without the driver and without its stand-in the loader ends atc before it starts (public reports, CANN 7 and 8).
    places = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if not any(place and Path(place, "libascend_hal.so").is_file() for place in places):
        print("atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file")
        sys.exit(127)
    print("NPUMAKE DOUBLE of atc")
    if FAILS == "abort":
        os.abort()
    if FAILS == "hang":
        sys.stdout.flush()
        time.sleep(600)
    given = arguments(sys.argv[1:])
    if FAILS == "atc":
        fail("E19010", "No parser is registered for Op [/conv1/Conv, optype [ai.onnx::11::Mystery]].")
    if given.get("mode", "0") == "1":
        if set(given) != DUMP or FAILS == "json":
            fail("E10007", f"--mode=1 takes --om and --json, not {sorted(given)}")
        try:
            write_description(read_om(given["om"]), Path(given["json"]))
        except (OSError, ValueError) as error:
            fail("E10041", str(error))
    elif given.get("mode", "0") == "0":
        convert(given)
    else:
        fail("E10001", f"--mode={given['mode']}")
    if FAILS != "no line":
        print(SUCCESS)


if __name__ == "__main__":
    main()
