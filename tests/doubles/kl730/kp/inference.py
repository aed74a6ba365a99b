"""kp.inference, the data inference [api_document/V3.2.0/kp/inference.md]."""

from __future__ import annotations

from types import SimpleNamespace

from kp.core import check_group
from kp.layouts import read_back
from kp.values import ApiKPException, ChannelOrdering, GenericDataInferenceDescriptor, setup, told_to


def generic_data_inference_send(device_group, generic_inference_input_descriptor):
    told_to("send")
    check_group(device_group)
    given = generic_inference_input_descriptor
    if not isinstance(given, GenericDataInferenceDescriptor):
        raise TypeError("a GenericDataInferenceDescriptor is needed")
    loaded = device_group.loaded
    if loaded is None:
        raise ApiKPException("no model is loaded")
    if given.model_id != loaded.model.id or len(given.input_node_data_list) != len(loaded.model.input_nodes):
        raise ApiKPException(f"no model {given.model_id} with {len(given.input_node_data_list)} inputs")
    feeds = {}
    for node, data in zip(loaded.model.input_nodes, given.input_node_data_list, strict=True):
        try:
            feeds[node.name] = read_back(data.buffer, node, loaded.platform)
        except ValueError as error:
            raise ApiKPException(str(error)) from None
    device_group.waiting.append(feeds)


def generic_data_inference_receive(device_group):
    told_to("receive")
    check_group(device_group)
    if not device_group.waiting:
        raise ApiKPException("nothing was sent")
    names = [one.name for one in device_group.loaded.model.output_nodes]
    arrays = device_group.loaded.session.run(names, device_group.waiting.pop(0))
    header = SimpleNamespace(num_output_node=len(names), inference_number=0)
    return SimpleNamespace(header=header, names=names, arrays=arrays)


def generic_inference_retrieve_float_node(node_idx, generic_raw_result, channels_ordering):
    if channels_ordering is not ChannelOrdering.KP_CHANNEL_ORDERING_CHW:
        raise TypeError("this double gives channels first")
    if type(node_idx) is not int or not 0 <= node_idx < generic_raw_result.header.num_output_node:
        raise ApiKPException(f"no output node {node_idx}")
    array = generic_raw_result.arrays[node_idx]
    name = "" if setup().nameless else generic_raw_result.names[node_idx]
    return SimpleNamespace(name=name, shape=list(array.shape), ndarray=array)
