"""The model script (.alls): only what HMZ's cfg/alls and LUX have; all else is refused."""

import ast
import json
import re
from pathlib import Path

COMMAND = re.compile(r"^(?:(\w+)\s*=\s*)?([a-z_][a-z0-9_]*)\((.*)\)$")


class ModelScriptError(Exception):
    pass


def read(text, folder, hn):
    """{"normalization", "level", "calibset", "batch", "equalization", "finetune", "wide", "sigmoid", "nms"} of it."""
    found = {
        "normalization": None,
        "level": None,
        "calibset": 64,
        "batch": 8,
        "finetune": None,
        "wide": [],
        "nms": None,
    }
    found |= {"equalization": True, "sigmoid": []}
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        match = COMMAND.match(line)
        if not match:
            raise ModelScriptError(f"cannot parse: {line}")
        name, (positional, keywords) = match[2], _arguments(match[3])
        command = globals().get(f"_{name}")
        if command is None:
            raise ModelScriptError(f"unknown command {name}")
        command(found, positional, keywords, {"line": line, "target": match[1], "folder": folder, "hn": hn})
    return found


def _arguments(text):
    """Split at the commas outside brackets and quotes."""
    parts = re.findall(r"(?:\[[^]]*\]|\{[^}]*\}|\"[^\"]*\"|[^,\[\]{}\"])+", text)
    positional, keywords = [], {}
    for part in (one.strip() for one in parts):
        key, sign, value = part.partition("=")
        if sign and re.fullmatch(r"\w+", key.strip()):
            keywords[key.strip()] = value.strip()
        elif part:
            positional.append(part)
    return positional, keywords


def _only(keywords, known, line):
    if unknown := set(keywords) - set(known):
        raise ModelScriptError(f"{sorted(unknown)[0]} is no argument of: {line}")


def _layer(word, at):
    """A layer's name; with or without the network's."""
    name = word if "/" in word else f"{at['hn']['name']}/{word}"
    if name not in at["hn"]["layers"]:
        raise ModelScriptError(f"no layer {word}: {at['line']}")
    return name


def _normalization(found, positional, keywords, at):
    # HMZ, cfg/alls: normalization1 = normalization([mean per channel], [std per channel])
    if not at["target"] or len(positional) != 2 or keywords or found["normalization"]:
        raise ModelScriptError(f"one `name = normalization([...], [...])` is taken: {at['line']}")
    mean, std = (ast.literal_eval(part) for part in positional)
    channels = next(iter(at["hn"]["layers"].values()))["output_shapes"][0][-1]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ModelScriptError(f"{channels} channels are to be normalised: {at['line']}")
    found["normalization"] = [mean, std]


def _model_optimization_flavor(found, positional, keywords, at):
    _only(keywords, ("optimization_level", "compression_level", "batch_size"), at["line"])
    if positional or found["level"] is not None:
        raise ModelScriptError(f"given twice, or with a bare value: {at['line']}")
    found["level"] = int(keywords.get("optimization_level", 2))
    if not 0 <= found["level"] <= 4 or not 0 <= int(keywords.get("compression_level", 0)) <= 5:
        raise ModelScriptError(f"levels are 0 to 4, compression 0 to 5: {at['line']}")


def _model_optimization_config(found, positional, keywords, at):
    if positional != ["calibration"]:
        raise ModelScriptError(f"only calibration is known: {at['line']}")
    _only(keywords, ("batch_size", "calibset_size"), at["line"])
    found["batch"] = int(keywords.get("batch_size", found["batch"]))
    found["calibset"] = int(keywords.get("calibset_size", found["calibset"]))


def _pre_quantization_optimization(found, positional, keywords, at):
    _only(keywords, ("policy", "layers", "mode", "clipping_values"), at["line"])
    if positional[:1] == ["equalization"] and keywords.get("policy") in ("enabled", "disabled"):
        found["equalization"] = keywords["policy"] == "enabled"
    elif positional[:1] != ["activation_clipping"]:
        raise ModelScriptError(f"unknown: {at['line']}")


def _post_quantization_optimization(found, positional, keywords, at):
    _only(keywords, ("policy", "dataset_size", "learning_rate", "epochs", "batch_size"), at["line"])
    if positional not in (["finetune"], ["bias_correction"], ["adaround"]) or keywords.get("policy") != "enabled":
        raise ModelScriptError(f"unknown: {at['line']}")
    if positional == ["finetune"]:
        found["finetune"] = int(keywords.get("dataset_size", 1024))


def _quantization_param(found, positional, keywords, at):
    _only(keywords, ("precision_mode", "force_range_out", "force_range_in", "force_range_index"), at["line"])
    words = re.split(r"[\s,]+", positional[0].strip("[]{} ")) if len(positional) == 1 else []
    if not words or keywords.get("precision_mode", "a8_w8") not in ("a8_w8", "a8_w4", "a16_w16"):
        raise ModelScriptError(f"layers and a precision are needed: {at['line']}")
    names = [_layer(word, at) for word in words]
    if keywords.get("precision_mode") == "a16_w16":
        found["wide"] += names


def _change_output_activation(found, positional, keywords, at):
    if keywords or len(positional) != 2 or positional[1] != "sigmoid":
        raise ModelScriptError(f"(layer, sigmoid) is taken: {at['line']}")
    found["sigmoid"].append(_layer(positional[0], at))


def _performance_param(found, positional, keywords, at):
    _only(keywords, ("compiler_optimization_level",), at["line"])


def _allocator_param(found, positional, keywords, at):
    _only(keywords, ("width_splitter_defuse",), at["line"])


def _nms_postprocess(found, positional, keywords, at):
    # HMZ, cfg/alls/generic: nms_postprocess("x.json", meta_arch=yolov8, engine=cpu); layers by bare names in the file.
    _only(keywords, ("meta_arch", "engine"), at["line"])
    if keywords != {"meta_arch": "yolov8", "engine": "cpu"}:
        raise ModelScriptError(f"'{keywords.get('meta_arch')}' is not a valid NMSMetaArchitectures: {at['line']}")
    path = Path(at["folder"]) / positional[0].strip('"')
    content = json.loads(path.read_text(encoding="utf-8"))
    needed = {"nms_scores_th", "nms_iou_th", "image_dims", "max_proposals_per_class", "classes", "regression_length",
              "background_removal", "background_removal_index", "bbox_decoders"}  # fmt: skip
    if set(content) != needed:
        raise ModelScriptError(f"{path.name}: {sorted(needed ^ set(content))}")
    layers = at["hn"]["layers"]
    height, width = next(iter(layers.values()))["output_shapes"][0][1:3]
    if content["image_dims"] != [height, width]:
        raise ModelScriptError(f"{path.name}: image_dims {content['image_dims']}, the input is {[height, width]}")
    for decoder in content["bbox_decoders"]:
        box, scores = _layer(decoder["reg_layer"], at), _layer(decoder["cls_layer"], at)
        rows, columns = height // decoder["stride"], width // decoder["stride"]
        if layers[box]["output_shapes"][0][1:] != [rows, columns, 4 * content["regression_length"]]:
            raise ModelScriptError(f"{path.name}: {box} is no box head of stride {decoder['stride']}")
        if layers[scores]["output_shapes"][0][1:] != [rows, columns, content["classes"]]:
            raise ModelScriptError(f"{path.name}: {scores} is no class head of stride {decoder['stride']}")
        if scores not in found["sigmoid"]:
            raise ModelScriptError(f"{path.name}: {scores} gives logits: change_output_activation({scores}, sigmoid)")
    if len(content["bbox_decoders"]) * 2 != len(at["hn"]["net_params"]["output_layers_order"]):
        raise ModelScriptError(f"{path.name}: not every output is decoded")
    found["nms"] = content
