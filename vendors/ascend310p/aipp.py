"""AIPP, the chip's own preprocessing: the file that makes an artifact take uint8 pixels and normalise them itself.

For each channel it computes (x - mean_chn - min_chn) * var_reci_chn (ATC tool, AIPP configuration file). mean_chn is
a whole number and min_chn is computed in float16, so the mean is split: its whole part in the one, the fraction, which
float16 holds far better than a number above 100, in the other.
"""

from __future__ import annotations

import math

from preprocessing import Preprocessing


def aipp_config(preprocessing: Preprocessing, size: tuple[int, int] | None) -> str:
    """The text of an AIPP file for x = (pixel - mean) / std, in the network's own order of the channels.

    size: (height, width); None where one artifact takes several, which is written as 0, 0.
    """
    height, width = size or (0, 0)
    lines = [
        "aipp_op {",
        "    aipp_mode: static",
        "    related_input_rank: 0",
        "    input_format: RGB888_U8",
        f"    src_image_size_w: {width}",
        f"    src_image_size_h: {height}",
        "    csc_switch: false",
        "    rbuv_swap_switch: false",
    ]
    whole = [math.floor(mean) for mean in preprocessing.mean_pixels]
    lines += [f"    mean_chn_{index}: {value}" for index, value in enumerate(whole)]
    rest = [mean - math.floor(mean) for mean in preprocessing.mean_pixels]
    lines += [f"    min_chn_{index}: {value:.9g}" for index, value in enumerate(rest)]
    lines += [f"    var_reci_chn_{index}: {1.0 / std:.9g}" for index, std in enumerate(preprocessing.std_pixels)]
    return "\n".join([*lines, "}"]) + "\n"
