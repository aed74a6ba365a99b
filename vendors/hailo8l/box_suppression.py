"""NMS=hailort: a second artifact in which HailoRT decodes the boxes and suppresses the overlapping ones by itself.

It is the same network, quantised with the same script and a few lines more. What HailoRT makes of its outputs runs on
the host's CPU and is not simulated here; the proof is of the raw tensors, and compile.json says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from failure import VendorError
from job_file import Job, chip_list
from output_map import EndPoint

OPTION = "NMS"
PROPOSALS_PER_CLASS = 100  # as in Hailo's own recipes (hailo_model_zoo, cfg/postprocess_config)
UNPROVEN = (
    "NMS=hailort: decoding and suppression by HailoRT are not simulated; the proof is of the raw tensors, of {proven}; "
    "{artifact} holds the same network, quantised with three kinds of lines more: check it on a device"
)
NO_FIT = "leave NMS= out: the host decodes the raw tensors"


def suppression(job: Job, layers: Sequence[tuple[str, EndPoint]], file_name: str) -> tuple[dict[str, Any], list[str]]:
    """The content of the NMS configuration, and the model-script lines that use it.

    layers: (Hailo's layer, the ONNX output that it gives), from get_hn_dict(). file_name: of the configuration.
    The fields are those of hailo_model_zoo v2.18, cfg/postprocess_config; the box head is told from the class head by
    its channels, four sides by regression_bins.
    Raises VendorError when the network is no detector of boxes and classes alone.
    """
    if len(job.inputs) != 1:
        raise VendorError(f"NMS=hailort takes a network of one input, and this one has {len(job.inputs)}", NO_FIT)
    kind, bins = job.decode.get("kind"), job.decode.get("regression_bins")
    if kind not in chip_list("suppressed_kinds") or not isinstance(bins, int):
        raise VendorError(f"NMS=hailort cannot decode this network: its decode kind is {kind!r}", NO_FIT)
    if job.decode.get("keypoints"):
        raise VendorError("NMS=hailort decodes boxes and classes, and this network has keypoints too", NO_FIT)
    height, width = job.inputs[0].shape[2:]
    strides: dict[int, dict[str, tuple[str, int]]] = {}
    for layer, end in layers:
        channels, rows, columns = end.shape[1:] if len(end.shape) == 4 else (0, 0, 0)
        stride = height // rows if rows else 0
        role = "box" if channels == 4 * bins else "class"
        if not rows or stride * rows != height or stride * columns != width or role in strides.get(stride, {}):
            raise VendorError(f"NMS=hailort: output {end.output} {list(end.shape)} is no head of boxes", NO_FIT)
        strides.setdefault(stride, {})[role] = (layer.rpartition("/")[2], channels)
    classes = {heads["class"][1] for heads in strides.values() if "class" in heads}
    if any(len(heads) != 2 for heads in strides.values()) or len(classes) != 1:
        found = ", ".join(f"{end.output} {list(end.shape)}" for _, end in layers)
        raise VendorError(f"NMS=hailort takes a box and a class head for each stride, not {found}", NO_FIT)
    count = classes.pop()
    if job.labels and len(job.labels) != count:
        raise VendorError(f"NMS=hailort: the class heads have {count} channels for {len(job.labels)} classes", NO_FIT)
    configuration = {
        "nms_scores_th": float(job.decode.get("shown_score", 0.25)),
        "nms_iou_th": float(job.decode.get("overlap_threshold", 0.7)),
        "image_dims": [height, width],
        "max_proposals_per_class": PROPOSALS_PER_CLASS,
        "classes": count,
        "regression_length": bins,
        "background_removal": False,
        "background_removal_index": 0,
        "bbox_decoders": [
            {
                "name": f"bbox_decoder_{stride}",
                "stride": stride,
                "reg_layer": heads["box"][0],
                "cls_layer": heads["class"][0],
            }
            for stride, heads in sorted(strides.items())
        ],
    }
    # The class heads give logits; the decoder takes probabilities.
    lines = [f"change_output_activation({heads['class'][0]}, sigmoid)" for _, heads in sorted(strides.items())]
    lines.append(f'nms_postprocess("{file_name}", meta_arch={_word(str(kind))}, engine=cpu)')
    lines.append("allocator_param(width_splitter_defuse=disabled)")
    return configuration, lines


def _word(text: str) -> str:
    """A word of the model script."""
    assert re.fullmatch(r"[a-z0-9_]+", text), text
    return text
