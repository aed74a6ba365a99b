"""The enumerations and values of kp that a data inference needs [api_document/V3.2.0/kp/enum.md, value.md]."""

from __future__ import annotations

import enum
import json
import os
from types import SimpleNamespace


class ApiKPException(Exception):  # noqa: N818  the name is Kneron's
    """[exception.md]"""


class ProductId(enum.IntEnum):
    KP_DEVICE_KL520 = 0x100
    KP_DEVICE_KL530 = 0x530
    KP_DEVICE_KL630 = 0x630
    KP_DEVICE_KL720 = 0x720
    KP_DEVICE_KL730 = 0x732


class ModelTargetChip(enum.IntEnum):
    KP_MODEL_TARGET_CHIP_UNKNOWN = 0
    KP_MODEL_TARGET_CHIP_KL520 = 1
    KP_MODEL_TARGET_CHIP_KL720 = 2
    KP_MODEL_TARGET_CHIP_KL530 = 3
    KP_MODEL_TARGET_CHIP_KL730 = 4
    KP_MODEL_TARGET_CHIP_KL630 = 5


class ModelTensorDataLayout(enum.IntEnum):
    KP_MODEL_TENSOR_DATA_LAYOUT_UNKNOWN = 0
    KP_MODEL_TENSOR_DATA_LAYOUT_4W4C8B = 1
    KP_MODEL_TENSOR_DATA_LAYOUT_1W16C8B = 2
    KP_MODEL_TENSOR_DATA_LAYOUT_16W1C8B = 3
    KP_MODEL_TENSOR_DATA_LAYOUT_8W1C16B = 4
    KP_MODEL_TENSOR_DATA_LAYOUT_RAW_8B = 5
    KP_MODEL_TENSOR_DATA_LAYOUT_RAW_16B = 6
    KP_MODEL_TENSOR_DATA_LAYOUT_RAW_FLOAT = 7
    KP_MODEL_TENSOR_DATA_LAYOUT_4W4C8BHL = 8
    KP_MODEL_TENSOR_DATA_LAYOUT_1W16C8BHL = 9
    KP_MODEL_TENSOR_DATA_LAYOUT_16W1C8BHL = 10


class ModelTensorShapeInformationVersion(enum.IntEnum):
    KP_MODEL_TENSOR_SHAPE_INFO_VERSION_1 = 1
    KP_MODEL_TENSOR_SHAPE_INFO_VERSION_2 = 2


class ChannelOrdering(enum.IntEnum):
    KP_CHANNEL_ORDERING_HCW = 0
    KP_CHANNEL_ORDERING_CHW = 1
    KP_CHANNEL_ORDERING_DEFAULT = 3


def setup() -> SimpleNamespace:
    """What KP_DOUBLE asks for."""
    plain = {"devices": [[0x732, 5]], "layout": "", "fails": "", "nameless": False, "usb_boot": False}
    return SimpleNamespace(**(plain | json.loads(os.environ.get("KP_DOUBLE", "{}"))))


def told_to(call: str) -> None:
    if setup().fails == call:
        raise ApiKPException(f"Error raised in function: {call}. Error code: 1. (double)")


class GenericInputNodeData:
    def __init__(self, buffer=b""):
        if type(buffer) is not bytes:
            raise TypeError("buffer is bytes")
        self.buffer = buffer


class GenericDataInferenceDescriptor:
    def __init__(self, inference_number=0, model_id=0, input_node_data_list=None):
        nodes = input_node_data_list
        if type(model_id) is not int or type(inference_number) is not int:
            raise TypeError("model_id and inference_number are int")
        if not isinstance(nodes, list) or not all(isinstance(one, GenericInputNodeData) for one in nodes):
            raise TypeError("input_node_data_list is a list of GenericInputNodeData")
        self.model_id, self.inference_number, self.input_node_data_list = model_id, inference_number, nodes
