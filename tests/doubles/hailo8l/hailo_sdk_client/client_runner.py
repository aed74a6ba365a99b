"""ClientRunner: parse, script, optimise, emulate, compile, in that order."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from fake_quantisation import Format, fake_quantised, observe, run_onnx
from onnx import helper

from hailo_sdk_client import model_script, network
from hailo_sdk_client.exposed_definitions import InferenceContext, States
from hailo_sdk_client.failing import fail
from hailo_sdk_client.har_file import pack, unpack

ARCHITECTURES = ("hailo8", "hailo8l", "hailo8r")  # of 3.x; HMZ, docs/CHANGELOG.rst
IMAGES_TO_TRAIN = 1024


class BadInputsShape(Exception):  # noqa: N818 - Hailo's name
    pass


class ClientRunner:
    def __init__(self, hw_arch=None, hn=None, har=None):
        fail("ClientRunner")
        if hw_arch not in ARCHITECTURES:
            raise ValueError(f"hw_arch {hw_arch} is none of {ARCHITECTURES}")
        assert hn is None
        self._header = {"state": States.UNINITIALIZED.value, "arch": hw_arch}
        self._models = {}
        self._script = None
        if har is not None:
            self._header, self._models = unpack(har)
            # HMZ, docs: the same --hw-arch in every step.
            if self._header["arch"] != hw_arch:
                raise ValueError(f"{har} was made for {self._header['arch']}, not for {hw_arch}")

    @property
    def state(self):
        return States(self._header["state"])

    @property
    def model_script(self):
        return self._header.get("script", "")

    def _need(self, *states):
        if self.state not in states:
            raise RuntimeError(f"the state is {self.state.name}, and has to be {' or '.join(s.name for s in states)}")

    def translate_onnx_model(
        self,
        model=None,
        net_name="model",
        start_node_names=None,
        end_node_names=None,
        net_input_shapes=None,
        augmented_path=None,
        disable_shape_inference=False,
        disable_rt_metadata_extraction=False,
        net_input_format=None,
        **kwargs,
    ):
        fail("translate_onnx_model")
        # The real one takes **kwargs and ignores what it does not know: a misspelt argument would be lost.
        assert not kwargs, f"unknown {sorted(kwargs)}"
        self._need(States.UNINITIALIZED)
        assert isinstance(model, str) and Path(model).is_file() and model.endswith(".onnx")
        assert isinstance(end_node_names, list) and end_node_names, "the end nodes have to be named"
        kept, hn, order = network.parse(model, net_name, end_node_names, net_input_shapes)
        self._models = {"native": kept}
        self._header |= {"state": States.HAILO_MODEL.value, "hn": hn, "order": order}
        return hn, {}

    def save_har(self, har_path, **_unknown):
        assert not _unknown and Path(har_path).suffix == ".har"
        if fail("save_har"):
            return
        self._need(States.HAILO_MODEL, States.QUANTIZED_MODEL, States.COMPILED_MODEL)
        Path(har_path).write_bytes(pack(self._header, self._models))

    def get_hn_dict(self):
        self._need(States.HAILO_MODEL, States.QUANTIZED_MODEL, States.COMPILED_MODEL)
        if fail("get_hn_dict"):
            return "{}"
        return self._header["hn"]

    def load_model_script(self, model_script=None, append=False):
        fail("load_model_script")
        self._need(States.HAILO_MODEL)
        path = Path(model_script)
        assert not append and path.is_file() and path.suffix == ".alls", "a file is what this stand-in takes"
        self._header["script"] = path.read_text(encoding="utf-8")
        self._script = self._read_script(path.parent)

    def _read_script(self, folder):
        return model_script.read(self._header["script"], folder, self._header["hn"])

    def optimize(self, calib_data, data_type=None, work_dir=None):
        fail("optimize")
        self._need(States.HAILO_MODEL)
        assert data_type is None and work_dir is None
        if not isinstance(calib_data, np.ndarray):
            raise ValueError("Couldn't detect CalibrationDataType")
        # LUX, exporter.py and HMZ, calibration: float32 in every public caller; whether uint8 is taken is not told.
        assert calib_data.dtype == np.float32, f"{calib_data.dtype} is not float32"
        self._check_shape(calib_data)
        assert np.isfinite(calib_data).all()
        if float(calib_data.std()) == 0:
            raise ValueError("BackendValueError: Unsupported NaN values found in params")
        script, count = self._script, len(calib_data)
        assert script is not None, "no model script was loaded"
        if script["normalization"]:
            # LUX, exporter.py: with normalization() the set is raw pixels; normalised twice it would be nearly zero.
            assert calib_data.min() >= 0 and 10 < calib_data.max() <= 255, "raw pixels of 0..255 are expected"
        if script["level"] is None:
            raise ValueError("no optimization_level: the default depends on the machine")
        trains = script["level"] > 0 or script["finetune"]
        gpus = int(os.environ.get("HAILO_DOUBLE_GPUS", "0"))
        if trains and (count < IMAGES_TO_TRAIN or not gpus):
            # The real one warns, and takes level 0: "less data than recommended (1024)", "no GPU".
            raise ValueError(f"Reducing optimization level to 0: {count} images, {gpus} GPUs")
        if script["finetune"] and script["finetune"] > count:
            raise ValueError(f"finetune on {script['finetune']} of {count} images")
        if script["calibset"] > count or script["calibset"] % script["batch"]:
            raise ValueError(f"calibset_size {script['calibset']}, batch_size {script['batch']} of {count} images")
        self._quantise(calib_data[: script["calibset"]], script)
        self._header |= {
            "state": States.QUANTIZED_MODEL.value,
            "nms": script["nms"],
            "raw": bool(script["normalization"]),
        }

    def _quantise(self, calibration, script):
        native = self._models["native"]
        mean, std = script["normalization"] or ([0.0], [1.0])
        model = network.normalised(native, mean, std)
        layers = self._header["hn"]["layers"]
        for layer in script["sigmoid"]:
            _append_sigmoid(model, self._tensor_of(layer))
        name = model.graph.input[0].name
        ranges = observe(model, ({name: _nchw(image[None])} for image in calibration))
        sources = [layers[one]["input"][0] if one.rpartition("/")[2].startswith("output_layer") else one
                   for one in script["wide"]]  # fmt: skip
        inside = {name for layer in sources for name in layers[layer]["original_names"]}
        tensors = [node.output[0] for node in native.graph.node if node.name in inside]
        wide = {tensor: Format(bits=16, symmetric=False) for tensor in tensors}
        quantised = fake_quantised(
            model,
            {tensor: (one.low, one.high) for tensor, one in ranges.items()},
            Format(bits=8, symmetric=False),
            Format(bits=8, per_channel=True),
            formats=wide,
        )
        self._models |= {"optimised": model, "quantised": quantised}

    def _tensor_of(self, layer):
        """The ONNX tensor that a layer gives: of the last node that it was made of."""
        last = self._header["hn"]["layers"][layer]["original_names"][-1]
        return next(node.output[0] for node in self._models["native"].graph.node if node.name == last)

    def _check_shape(self, array):
        height, width, channels = next(iter(self._header["hn"]["layers"].values()))["output_shapes"][0][1:]
        if array.ndim != 4 or array.shape[1:] != (height, width, channels):
            raise BadInputsShape(f"Data shape {array.shape[1:]} doesn't match {(height, width, channels)}")

    @contextmanager
    def infer_context(self, inference_context, device_ids=None, nms_score_threshold=None, custom_infer_config=None):
        assert isinstance(inference_context, InferenceContext) and device_ids is None
        if inference_context is InferenceContext.SDK_HAILO_HW:
            raise RuntimeError("there is no device")
        if inference_context is InferenceContext.SDK_NATIVE:
            self._need(States.HAILO_MODEL)
        else:
            self._need(States.QUANTIZED_MODEL)
        fail("infer_context")
        self._open = inference_context
        yield inference_context
        self._open = None

    def infer(self, context, dataset, batch_size=8, data_count=None, data_type=None):
        how = fail("infer")
        assert context is getattr(self, "_open", None) and context is not None, "the context is not open"
        assert data_count is None and data_type is None and isinstance(batch_size, int) and batch_size > 0
        assert isinstance(dataset, np.ndarray) and dataset.dtype == np.float32
        self._check_shape(dataset)
        assert not self._header.get("nms"), "with NMS the emulator gives boxes"
        if context is not InferenceContext.SDK_NATIVE and self._header["raw"]:
            assert dataset.min() >= 0 and dataset.max() > 10, "raw pixels of 0..255 are expected"
        kind = {"SDK_NATIVE": "native", "SDK_FP_OPTIMIZED": "optimised", "SDK_QUANTIZED": "quantised"}[context.name]
        model = self._models[kind]
        name = model.graph.input[0].name
        found = [run_onnx(model, {name: _nchw(image[None])}) for image in dataset]
        arrays = [np.concatenate([_nhwc(one[tensor]) for one in found]) for tensor in self._header["order"]]
        if how == "empty":
            return [array[:0] for array in arrays]
        return arrays if len(arrays) > 1 else arrays[0]

    def compile(self):
        how = fail("compile")
        self._need(States.QUANTIZED_MODEL)
        assert os.environ["USER"], "the allocator reads USER"
        if how == "empty":
            return b""
        layers = self._header["hn"]["layers"]
        outputs = [
            {"name": name, "shape": layers[name]["output_shapes"][0][1:], "tensor": tensor,
             "original_names": layers[name]["original_names"]}
            for name, tensor in zip(self._header["hn"]["net_params"]["output_layers_order"], self._header["order"],
                                    strict=True)
        ]  # fmt: skip
        first = next(iter(layers))
        inputs = [{"name": first, "shape": layers[first]["output_shapes"][0][1:]}]
        header = {key: self._header.get(key) for key in ("arch", "nms", "raw")} | {"inputs": inputs, "outputs": outputs}
        self._header["state"] = States.COMPILED_MODEL.value
        return pack(header, {"quantised": self._models["quantised"]})


def _append_sigmoid(model, tensor):
    """The activation becomes the layer's own: its tensor keeps its name."""
    nodes = []
    for node in model.graph.node:
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        if tensor in node.output:
            nodes[-1].output[0] = f"{tensor}.logits"
            nodes.append(helper.make_node("Sigmoid", [f"{tensor}.logits"], [tensor], f"{node.name}.sigmoid"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _nchw(array):
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2), np.float32)


def _nhwc(array):
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
