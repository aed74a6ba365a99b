import os
import pickle

import pytest
import torch

from common.basics.errors import UserError
from common.checkpoints import likely_model
from common.checkpoints.checkpoint import load_checkpoint
from models.arch import build, build_architecture
from models.arch.blocks import initialize
from tests.common.checkpoint_files import ARCHITECTURE, ARCHITECTURES, WRAPPINGS, mmpose, networks_once, save
from tests.models.published_names import published_names


@pytest.fixture(autouse=True)
def networks_are_built_once(monkeypatch):
    """All our networks are built for every error message, in seconds: here once for all tests."""
    monkeypatch.setattr(likely_model, "_networks", networks_once)


@pytest.fixture(scope="module")
def trained():
    """The state_dict of a narrow HRNet: the published names, few numbers."""
    torch.manual_seed(1)
    return build_architecture(ARCHITECTURE, "test").state_dict()


@pytest.fixture
def module():
    torch.manual_seed(2)
    return build_architecture(ARCHITECTURE, "test")


def equal(module, state):
    loaded = module.state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_wrapping_loads(kind, wrapping, tmp_path):
    if kind == "yolov8" and wrapping.startswith("mmpose"):
        pytest.skip("mmpose has no YOLOv8")
    trained, module = (build_architecture(ARCHITECTURES[kind], "test") for _ in range(2))
    for index, network in enumerate((trained, module)):
        initialize(network, seed=index)
    state = trained.state_dict()
    assert not equal(module, state)
    record = load_checkpoint(module, save(WRAPPINGS[wrapping](state), tmp_path))
    assert equal(module, state)
    assert record["tensors"] == len(state)


def test_the_old_file_format_loads(trained, module, tmp_path):
    load_checkpoint(module, save(trained, tmp_path, _use_new_zipfile_serialization=False))
    assert equal(module, trained)


def test_half_precision_becomes_float32(trained, module, tmp_path):
    halves = {name: t.half() if t.is_floating_point() else t for name, t in trained.items()}
    assert load_checkpoint(module, save(halves, tmp_path))["cast"] == ["float16"]
    loaded = module.state_dict()
    assert all(loaded[name].dtype == trained[name].dtype for name in trained)
    assert torch.equal(loaded["conv1.weight"], trained["conv1.weight"].half().float())


def test_a_mismatch_lists_the_first_names_and_the_counts(trained, module, tmp_path):
    state = dict(trained)
    names = list(state)
    for name in names[:7]:
        state["other." + name] = state.pop(name)
    state["final_layer.weight"] = torch.zeros(16, 4, 1, 1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(module, save(state, tmp_path))
    message = caught.value.message
    assert "7 missing: conv1.weight, " in message and "and 2 more" in message
    assert "7 unexpected: other.conv1.weight" in message
    assert names[4] in message and names[5] not in message.split("unexpected")[0]
    assert "1 of another shape: final_layer.weight is 16x4x1x1, should be 17x4x1x1" in message
    assert equal(module, before), "a refused file must not load in part"


def test_another_width_is_told(trained, tmp_path):
    with pytest.raises(UserError, match="of another shape"):
        load_checkpoint(build_architecture(ARCHITECTURE | {"width": 8}, "test"), save(trained, tmp_path))


def test_a_backbone_without_head_is_told(trained, module, tmp_path):
    state = {name: t for name, t in trained.items() if not name.startswith("final_layer.")}
    with pytest.raises(UserError, match=r"2 missing: final_layer\.weight") as caught:
        load_checkpoint(module, save(state | {"classifier.weight": torch.zeros(1)}, tmp_path))
    assert "ImageNet" in caught.value.hint


def test_nan_is_named(trained, module, tmp_path):
    state = dict(trained) | {"bn1.bias": torch.full((8,), torch.nan)}
    with pytest.raises(UserError, match=r"1 weights: bn1\.bias"):
        load_checkpoint(module, save(state, tmp_path))


class Malicious:
    def __init__(self, witness):
        self.witness = str(witness)

    def __reduce__(self):
        return os.mkdir, (self.witness,)


@pytest.mark.parametrize("wrap", ["torch zip", "torch old", "pickle"])
def test_code_in_a_checkpoint_is_not_executed(wrap, trained, module, tmp_path):
    content = {"state_dict": dict(trained), "meta": Malicious(tmp_path / "witness")}
    path = tmp_path / "weights.pth"
    if wrap == "pickle":
        path.write_bytes(pickle.dumps(content["meta"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=wrap == "torch zip")
    with pytest.raises(UserError, match=r"nothing in it was executed|not a torch checkpoint"):
        load_checkpoint(module, path)
    assert not (tmp_path / "witness").exists()


def test_code_is_named(module, tmp_path):
    with pytest.raises(UserError, match=r"would call \S*mkdir; nothing in it was executed"):
        load_checkpoint(module, save({"state_dict": Malicious(tmp_path / "witness")}, tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"PK\x03\x04 not really a zip", "truncated, or is not"),
        (b"plain text", "not a torch checkpoint"),
        (b"\x08\x07\x12\x07pytorch", "perhaps an ONNX graph"),
    ],
)
def test_other_files(content, said, module, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        load_checkpoint(module, path)
    assert str(path) in caught.value.message and caught.value.hint


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(share, trained, module, tmp_path):
    path = save(trained, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"truncated|damaged"):
        load_checkpoint(module, path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3), {}])
def test_no_weights_by_name(content, module, tmp_path):
    with pytest.raises(UserError, match="holds no weights by name"):
        load_checkpoint(module, save(content, tmp_path))


def test_a_missing_file(module, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(module, tmp_path / "none.pth")


def test_a_file_of_ultralytics_is_told_to_be_exported(module, tmp_path):
    # A pickle that would import ultralytics.nn.tasks and take DetectionModel from it.
    path = tmp_path / "yolov8n.pt"
    path.write_bytes(b"\x80\x02cultralytics.nn.tasks\nDetectionModel\n)R.")
    with pytest.raises(UserError, match=r"would call ultralytics\.nn\.tasks\.DetectionModel; nothing in it") as caught:
        load_checkpoint(module, path)
    assert "ONNX" in caught.value.hint


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    ("name", "naming", "count"),
    [
        ("hrnet_w32_256x192", "official", 1754),
        ("hrnet_w32_256x192", "mmpose", 1754),
        ("higherhrnet_w32_512", "official", 1810),
        ("higherhrnet_w32_512", "mmpose", 1810),
        ("hourglass52_256x256", "mmpose", 494),
    ],
)
def test_the_published_names_and_shapes_load(name, naming, count, tmp_path):
    state = {}
    for key, shape in published_names(name):
        sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
        state[key] = torch.zeros((), dtype=torch.int64 if "num_batches" in key else torch.float16).expand(sizes)
    content = state if naming == "official" else {"meta": {}, "state_dict": mmpose(state)}
    with torch.device("meta"):
        module = build(name)
    assert load_checkpoint(module, save(content, tmp_path))["tensors"] == len(state) == count
