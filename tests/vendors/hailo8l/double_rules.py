"""Every rule of the double, broken once: prints {rule: what it said, or "taken"} as JSON. Run in its own process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hailo_sdk_client
import numpy as np
from hailo_sdk_client import ClientRunner, InferenceContext

JOB = Path(sys.argv[1])
GRAPH = str(JOB / "model.onnx")
ENDS = ["/small/Conv", "/large/Identity"]
SHAPES = {"image": [1, 3, 16, 12]}
NORMAL = "n1 = normalization([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])"
LEVEL = "model_optimization_flavor(optimization_level=0, compression_level=0)"
COUNT = "model_optimization_config(calibration, batch_size=4, calibset_size=8)"
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 12, 3)).astype(np.float32)


def parsed(**change) -> ClientRunner:
    runner = ClientRunner(hw_arch="hailo8l")
    options = {"end_node_names": ENDS, "net_input_shapes": SHAPES, **change}
    runner.translate_onnx_model(options.pop("model", GRAPH), options.pop("net_name", "net"), **options)
    return runner


def scripted(*lines: str) -> ClientRunner:
    runner = parsed()
    path = Path("s.alls")
    path.write_text("\n".join(lines))
    runner.load_model_script(str(path))
    return runner


def optimised(data: object = PIXELS, *lines: str, **options) -> ClientRunner:
    runner = scripted(*(lines or (NORMAL, LEVEL, COUNT)))
    runner.optimize(data, **options)
    return runner


def inferred(runner: ClientRunner, context: str, data: np.ndarray, **options) -> object:
    with runner.infer_context(getattr(InferenceContext, context)) as opened:
        return runner.infer(**({"context": opened, "dataset": data, "batch_size": 4} | options))


def kept(runner: ClientRunner, name: str = "x.har") -> str:
    runner.save_har(name)
    return name


def outside_a_context() -> None:
    parsed().infer(context=InferenceContext.SDK_NATIVE, dataset=PIXELS)


def twice() -> None:
    parsed().translate_onnx_model(GRAPH, "net", end_node_names=ENDS, net_input_shapes=SHAPES)


def nms_with(**change) -> ClientRunner:
    content = {
        "nms_scores_th": 0.2, "nms_iou_th": 0.7, "image_dims": [16, 12], "max_proposals_per_class": 100, "classes": 4,
        "regression_length": 16, "background_removal": False, "background_removal_index": 0, "bbox_decoders": [],
    }  # fmt: skip
    Path("n.json").write_text(json.dumps({**content, **change}))
    return scripted('nms_postprocess("n.json", meta_arch=yolov8, engine=cpu)')


RULES = {
    "hw_arch": lambda: ClientRunner(hw_arch="hailo15h"),
    "hw_arch of every step": lambda: ClientRunner(hw_arch="hailo8", har=kept(parsed())),
    "unknown argument": lambda: parsed(end_nodes=ENDS),
    "end nodes by name of the node": lambda: parsed(end_node_names=["small", "large"]),
    "end nodes": lambda: parsed(end_node_names=None),
    "shapes": lambda: parsed(net_input_shapes={"image": [1, 16, 12, 3]}),
    "input name": lambda: parsed(net_input_shapes={"x": [1, 3, 16, 12]}),
    "network name": lambda: parsed(net_name="net.double"),
    "parsed twice": twice,
    "saved before parsed": lambda: ClientRunner(hw_arch="hailo8l").save_har("y.har"),
    "name of a har": lambda: parsed().save_har("y.bin"),
    "script before parsed": lambda: ClientRunner(hw_arch="hailo8l").load_model_script("s.alls"),
    "script by text": lambda: parsed().load_model_script(NORMAL),
    "script: unknown command": lambda: scripted("speed_up(conv1)"),
    "script: no command": lambda: scripted("faster please"),
    "script: unknown layer": lambda: scripted("quantization_param(conv77, precision_mode=a16_w16)"),
    "script: unknown precision": lambda: scripted("quantization_param(conv1, precision_mode=a32_w32)"),
    "script: unknown argument": lambda: scripted("model_optimization_flavor(level=0)"),
    "script: level": lambda: scripted("model_optimization_flavor(optimization_level=7)"),
    "script: channels": lambda: scripted("n = normalization([0.0], [255.0])"),
    "script: normalised twice": lambda: scripted(NORMAL, NORMAL),
    "nms: fields": lambda: nms_with(anchors=[]),
    "nms: image_dims": lambda: nms_with(image_dims=[12, 16]),
    "nms: outputs left over": lambda: nms_with(),
    "nms: meta_arch": lambda: scripted('nms_postprocess("n.json", meta_arch=yolov9, engine=cpu)'),
    "optimised without a script": lambda: parsed().optimize(PIXELS),
    "calibration: list": lambda: optimised(list(PIXELS)),
    "calibration: dtype": lambda: optimised(PIXELS.astype(np.uint8)),
    "calibration: NCHW": lambda: optimised(PIXELS.transpose(0, 3, 1, 2)),
    "calibration: no batch": lambda: optimised(PIXELS[0]),
    "calibration: normalised": lambda: optimised(PIXELS / 255),
    "calibration: alike": lambda: optimised(np.full_like(PIXELS, 100.0)),
    "calibration: too few": lambda: optimised(PIXELS[:4]),
    "calibration: batch": lambda: optimised(PIXELS, NORMAL, LEVEL, COUNT.replace("=4", "=3")),
    "level: not told": lambda: optimised(PIXELS, NORMAL, COUNT),
    "level: no GPU": lambda: optimised(PIXELS, NORMAL, LEVEL.replace("level=0, c", "level=2, c"), COUNT),
    "compiled before optimised": lambda: parsed().compile(),
    "optimised twice": lambda: optimised().optimize(PIXELS),
    "emulated before optimised": lambda: inferred(parsed(), "SDK_QUANTIZED", PIXELS),
    "emulated outside a context": outside_a_context,
    "emulated NCHW": lambda: inferred(optimised(), "SDK_QUANTIZED", PIXELS.transpose(0, 3, 1, 2)),
    "emulated normalised": lambda: inferred(optimised(), "SDK_QUANTIZED", PIXELS / 255),
    "emulated float64": lambda: inferred(optimised(), "SDK_QUANTIZED", PIXELS.astype(np.float64)),
    "emulated on a chip": lambda: inferred(optimised(), "SDK_HAILO_HW", PIXELS),
    "native of a quantised network": lambda: inferred(optimised(), "SDK_NATIVE", PIXELS),
}


def main() -> None:
    assert hailo_sdk_client.NPUMAKE_DOUBLE
    found = {}
    for rule, broken in RULES.items():
        try:
            broken()
            found[rule] = "taken"
        except Exception as error:
            found[rule] = f"{type(error).__name__}: {error}"
    one = inferred(optimised(), "SDK_QUANTIZED", PIXELS)
    found["good"] = [list(array.shape) for array in one]
    found["compiled"] = optimised().compile()[:14].decode()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
