"""A strict stand-in for Kneron PLUS (kp 3.2), from its public documents alone: plus_python/api_document/V3.2.0 and
plus_python/tutorial/chapter/model_inference_with_data_inference.md in the Kneron document center.

It takes the .nef files of the double of ktc, checks the order of the calls, reads the input back out of the NPU's
layout, and runs the network in onnxruntime. KP_DOUBLE is a JSON object: devices [[product id, port], ...], layout (of
the input), fails (a call that raises), nameless (outputs without names), usb_boot (a device that needs firmware).
"""

from kp import core, inference
from kp.values import (
    ApiKPException,
    ChannelOrdering,
    GenericDataInferenceDescriptor,
    GenericInputNodeData,
    ModelTargetChip,
    ModelTensorDataLayout,
    ModelTensorShapeInformationVersion,
    ProductId,
)

NPUMAKE_DOUBLE = True

__all__ = [
    "NPUMAKE_DOUBLE",
    "ApiKPException",
    "ChannelOrdering",
    "GenericDataInferenceDescriptor",
    "GenericInputNodeData",
    "ModelTargetChip",
    "ModelTensorDataLayout",
    "ModelTensorShapeInformationVersion",
    "ProductId",
    "core",
    "inference",
]
