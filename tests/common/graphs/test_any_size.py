"""A graph that was exported for one size, run at others: the same numbers as graphs made for those sizes."""

import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.basics.files import write_json
from common.declarations.spec import model_from_dict
from common.evaluation.evaluated_network import FloatNetwork
from common.full_evaluation import Asked, evaluate
from common.graphs.any_size import load_any_size
from common.graphs.onnx_graph import Runner
from common.job import FloatReference
from tests.common.image_sets import MEAN, STD, change_json, make_set, picture

CONSTANTS = {
    "weights": np.random.default_rng(0).normal(0, 1, (34, 3, 3, 3)).astype(np.float32),
    "mixed": np.random.default_rng(1).normal(0, 1, (17, 34, 1, 1)).astype(np.float32),
    "roi": np.zeros(0, np.float32),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "size": np.array([1, 34, 32, 32], np.int64),
    "flat": np.array([1, 34, -1], np.int64),
}


def save(path, nodes, shapes, height=64, width=64):
    """Input "image" [1, 3, height, width]; shapes: of the outputs."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "bottomup",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def bottomup_network(path, height=64, width=64):
    """Like HigherHRNet: "maps" [1, 34, H/4, W/4], and "heatmaps" [1, 17, H/2, W/2] by a resize with a factor."""
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["maps"], strides=[4, 4], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["maps", "mixed"], ["small"]),
        helper.make_node("Resize", ["small", "roi", "twice"], ["heatmaps"], mode="nearest"),
    ]
    shapes = {"maps": [1, 34, height // 4, width // 4], "heatmaps": [1, 17, height // 2, width // 2]}
    return save(path, nodes, shapes, height, width)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (192, 64)])
def test_other_sizes_give_what_their_own_graphs_give(tmp_path, height, width):
    image = np.random.default_rng(2).normal(0, 1, (1, 3, height, width)).astype(np.float32)
    found = load_any_size(bottomup_network(tmp_path / "one.onnx")).run_once({"image": image})
    expected = Runner(bottomup_network(tmp_path / "own.onnx", height, width)).run_once({"image": image})
    assert found["heatmaps"].shape == (1, 17, height // 2, width // 2)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (helper.make_node("Resize", ["maps", "roi", "roi", "size"], ["out"], mode="nearest"), "Resize"),
        (helper.make_node("Reshape", ["maps", "flat"], ["out"]), "Reshape"),
    ],
)
def test_a_graph_with_sizes_in_it_is_refused(tmp_path, node, named):
    convolution = helper.make_node("Conv", ["image", "weights"], ["maps"], strides=[4, 4], pads=[1, 1, 1, 1])
    path = save(tmp_path / "sized.onnx", [convolution, node], {"out": [1, 34, 32, 32][: 4 if named == "Resize" else 3]})
    with pytest.raises(UserError, match=rf"node 'out' \({named}\) holds a size") as caught:
        load_any_size(path)
    assert caught.value.hint


@pytest.fixture()
def network(tmp_path):
    content = {
        "name": "tester",
        "task": "bottomup_pose",
        "input": {"shape": [1, 3, 64, 64], "color": "rgb", "scale": 255, "mean": MEAN, "std": STD},
        "decode": {"kind": "associative_embedding", "keypoints": "coco17"},
    }
    spec = model_from_dict(content, "the test").model_dump(mode="json")
    folder = tmp_path / "out" / "float"
    source = {"kind": "random", "origin": "random", "path": None}
    write_json(folder / "source.json", {"version": 1, "model": "tester", "spec": spec, "source": source})
    bottomup_network(folder / "model.onnx")
    return FloatNetwork(FloatReference(folder))


def test_bottom_up_by_the_published_protocol_at_every_size(network, tmp_path, monkeypatch):
    """Photographs of different shapes: short side 64, the long one padded to a multiple of 64."""
    folder = make_set(tmp_path / "set", images=3, people=2)
    cv2.imwrite(str(folder / "3.png"), picture(9, 100, 320))
    change_json(folder / "person_keypoints.json", lambda content: content["images"][2].update(width=100, height=320))
    seen = []
    original = FloatNetwork.run
    monkeypatch.setattr(
        FloatNetwork, "run", lambda self, inputs: seen.extend(i.shape[2:] for i in inputs) or original(self, inputs)
    )
    place = evaluate(network, Asked(folder, flip=True))
    assert place.name == "set-flip"
    # 160x120 and 100x320, each with its mirror image
    assert seen == [(64, 128)] * 4 + [(256, 64)] * 2
    content = json.loads((place / "metrics.json").read_text())
    assert "short side 64" in content["protocol"] and "fixed input" not in content["protocol"]
    assert content["metric"] == "AP" and content["instances"] == 3
    seen.clear()
    place = evaluate(network, Asked(folder, limit=1, scales=(0.5, 1.0, 2.0)))
    assert place.name == "set-scales0.5_1_2-first1" and len(seen) == 3
    with pytest.raises(UserError, match="shown whole images"):
        evaluate(network, Asked(folder, boxes="gt"))
