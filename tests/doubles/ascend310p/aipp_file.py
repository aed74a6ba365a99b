"""Reads an AIPP file as atc does, strictly (ATC tool, "AIPP configuration file template")."""

from __future__ import annotations

import re
from typing import Any

FIXED = {"aipp_mode": "static", "input_format": "RGB888_U8", "csc_switch": "false", "related_input_rank": "0"}
SWITCHES = {"rbuv_swap_switch"}
NUMBERS = {f"{word}_{index}" for word in ("mean_chn", "min_chn", "var_reci_chn") for index in range(3)}
SIZES = {"src_image_size_w", "src_image_size_h"}


def read_aipp(text: str, shape: list[int], free: bool) -> dict[str, Any]:
    """{"mean_chn": [3], "min_chn": [3], "var_reci_chn": [3]}. shape: the model's NCHW; free: several sizes.

    Raises ValueError for a key that is unknown, missing or twice, and for a value out of its documented range.
    """
    body = re.fullmatch(r"\s*aipp_op\s*\{(.*)\}\s*", text, re.DOTALL)
    if not body:
        raise ValueError("no aipp_op { ... }")
    values: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in body[1].splitlines())):
        key, separator, value = (part.strip() for part in line.partition(":"))
        if not separator or key in values or key not in {*FIXED, *SWITCHES, *NUMBERS, *SIZES}:
            raise ValueError(f"{line!r} is not understood, or stands there twice")
        values[key] = value
    if missing := sorted({*FIXED, *NUMBERS, *SIZES} - set(values)):
        raise ValueError(f"{missing[0]} is missing")
    for key, wanted in FIXED.items():
        if values[key] != wanted:
            raise ValueError(f"{key}: {values[key]}")
    if values.get("rbuv_swap_switch", "false") not in ("true", "false"):
        raise ValueError("rbuv_swap_switch")
    size = [int(values["src_image_size_h"]), int(values["src_image_size_w"])]
    # With several sizes both have to be 0 (CANN 8.5, application development, static AIPP with dynamic image size).
    if size != ([0, 0] if free else shape[2:]):
        raise ValueError(f"src_image_size is {size}, the model's is {shape[2:]}")
    found: dict[str, Any] = {}
    for word in ("mean_chn", "min_chn", "var_reci_chn"):
        texts = [values[f"{word}_{index}"] for index in range(3)]
        if word == "mean_chn" and not all(re.fullmatch(r"\d+", each) and int(each) <= 255 for each in texts):
            raise ValueError(f"mean_chn takes whole numbers of 0 to 255, not {texts}")
        numbers = [float(each) for each in texts]
        if any(not abs(number) <= (255 if word == "min_chn" else 65504) for number in numbers):
            raise ValueError(f"{word}: {texts}")
        found[word] = numbers
    return found
