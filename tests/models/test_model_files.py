"""Every models/*/model.yaml against its own network: the sizes it lists, the outputs its decode needs, its weights."""

import re

import pytest
import torch

from common.declarations.keypoints import KEYPOINT_SETS
from common.declarations.spec import load_model, model_names
from models.arch import build

NAMES = sorted({path.parent.name for path in model_names().values()})
TABLE = {  # of the models that the project promises
    "hrnet_w32_256x192", "hrnet_w32_384x288", "hrnet_w48_256x192", "hrnet_w48_384x288", "hrnet_w32_mpii_256x256",
    "higherhrnet_w32_512", "higherhrnet_w32_640", "higherhrnet_w48_640", "hourglass52_256x256", "hourglass52_384x384",
    "yolov8n", "yolov8n_pose", "hrnet_tiny",
}  # fmt: skip
# The dynamic_dims of HigherHRNet in Ascend's ModelZoo-PyTorch, height,width.
ASCEND = (
    "1024,512;960,512;896,512;832,512;768,512;704,512;640,512;576,512;512,512;"
    "512,576;512,640;512,704;512,768;512,832;512,896;512,960;512,1024"
)


def expected_shapes(spec, height, width):
    """What the decode of each kind reads."""
    joints = len(KEYPOINT_SETS[spec.decode.keypoints].names) if spec.decode.keypoints else 0
    if spec.decode.kind == "heatmap":
        return [(1, joints, height // 4, width // 4)]
    if spec.decode.kind == "associative_embedding":
        return [(1, 2 * joints, height // 4, width // 4), (1, joints, height // 2, width // 2)]
    classes = 80 if spec.decode.classes == "coco80" else len(spec.decode.classes)
    cells = sum((height // stride) * (width // stride) for stride in spec.decode.strides)
    return [(1, 4 + classes + 3 * joints, cells)]


def test_every_promised_model_is_here():
    assert set(NAMES) >= TABLE


@pytest.mark.parametrize("name", NAMES)
def test_the_network_takes_every_listed_size_and_gives_what_its_decode_reads(name):
    spec = load_model(name)
    sizes = [spec.input.shape[2:], *spec.input.sizes[:: max(1, len(spec.input.sizes) - 1)]]  # the first and the last
    with torch.device("meta"):  # shapes only: no memory, no arithmetic
        network = build(name).eval()
        for height, width in sizes:
            outputs = network(torch.zeros(1, 3, height, width))
            outputs = outputs if isinstance(outputs, list) else [outputs]
            assert [tuple(output.shape) for output in outputs] == expected_shapes(spec, height, width)
    assert len(getattr(network, "output_names", ("heatmaps",))) == len(outputs)
    assert all(height % 32 == 0 and width % 32 == 0 for height, width in spec.input.sizes)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("higherhrnet")])
def test_higherhrnet_has_the_sizes_of_ascends_table(name):
    table = {tuple(map(int, size.split(","))) for size in ASCEND.split(";")}
    sizes = [tuple(size) for size in load_model(name).input.sizes]
    assert len(table) == 17 and table <= set(sizes)
    assert len(sizes) == len(set(sizes))


@pytest.mark.parametrize("name", NAMES)
def test_weights_say_what_they_are(name):
    spec = load_model(name)
    assert spec.weights is not None and spec.weights.licence
    if "openmmlab" in (spec.weights.url or ""):
        assert spec.weights.url.endswith("/" + spec.weights.file)
        # mmpose publishes a file as <name>-<first 8 digits of its SHA-256>_<date>.pth.
        assert re.fullmatch(rf"\w+-{spec.weights.sha256}_\d{{8}}\.pth", spec.weights.file)
    elif not spec.demo:
        assert spec.weights.source, "where somebody finds the file"
    assert spec.demo or spec.published


@pytest.mark.parametrize("name", NAMES)
def test_every_model_says_how_much_int8_may_lose(name):
    spec = load_model(name)
    fp32, int8 = spec.gate_for("fp32"), spec.gate_for("int8")
    assert fp32.ap_drop < int8.ap_drop and fp32.oks > int8.oks
    if spec.task != "detection":  # a pose network; a detector's boxes are compared by IoU
        assert int8.oks == 0.98
