"""YOLOv8: published parameter counts, the decode in closed form, and the graph that an export has."""

import math
from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from common.basics.errors import UserError
from common.checkpoints.export_torch import initialize_random, to_onnx
from common.graphs.onnx_graph import Runner
from models.arch.blocks import initialize
from models.arch.yolov8 import BINS, STRIDES, Distances, YOLOv8
from tests.models.published_names import parameter_count

# As the published configuration states them, "parameters" with the 16 fixed numbers of the distances; yolov8n-pose: of
# the published file.
PUBLISHED = [
    ({}, 3_157_200),
    ({"width": 0.5}, 11_166_560),
    ({"width": 0.75, "depth": 0.67, "maximum": 768}, 25_902_640),
    ({"width": 1.0, "depth": 1.0, "maximum": 512}, 43_691_520),
    ({"width": 1.25, "depth": 1.0, "maximum": 512}, 68_229_648),
    ({"classes": 1, "keypoints": 17}, 3_295_470),
]
TINY = {"width": 1 / 16}
HEIGHT, WIDTH = 64, 96
CELLS = [(8, 12), (4, 6), (2, 3)]  # rows, columns of a 64x96 input at the strides 8, 16, 32


@pytest.mark.parametrize(("parameters", "count"), PUBLISHED)
def test_counts_are_the_published_ones(parameters, count):
    with torch.device("meta"):  # shapes only: no memory, no initialisation
        assert parameter_count(YOLOv8(**parameters)) == count


@pytest.mark.parametrize(("parameters", "rows"), [({}, 84), ({"classes": 1, "keypoints": 17}, 56)])
def test_the_output_of_640x640_has_8400_cells(parameters, rows):
    with torch.device("meta"):
        network = YOLOv8(**parameters).eval()
        assert network(torch.zeros(1, 3, 640, 640)).shape == (1, rows, 8400)


def with_known_logits(network: YOLOv8, boxes: list[float], scores: list[float], joints: list[float]) -> YOLOv8:
    """The network whose head gives these logits in every cell, whatever the image."""
    values = {network.head.boxes: boxes, network.head.scores: scores, network.head.joints: joints}
    for branches, bias in values.items():
        for branch in branches or []:
            torch.nn.init.zeros_(branch[-1].weight)
            branch[-1].bias.data.copy_(torch.tensor(bias))
    return network.eval()


def one_hot(*bins: int) -> list[float]:
    """Logits of the four sides that leave no doubt about the bin."""
    return [1000.0 if value == wanted else 0.0 for wanted in bins for value in range(BINS)]


def test_known_logits_give_known_boxes_scores_and_keypoints_in_every_cell():
    left, top, right, bottom = 1, 2, 4, 7
    logit = {0.2: math.log(0.25), 0.5: 0.0, 0.8: math.log(4)}
    network = with_known_logits(
        YOLOv8(classes=3, keypoints=2, **TINY),
        one_hot(left, top, right, bottom),
        [logit[0.5], logit[0.2], logit[0.8]],
        [0.25, -1.0, logit[0.8], 0.0, 0.5, logit[0.2]],
    )
    expected = []
    for stride, (rows, columns) in zip(STRIDES, CELLS, strict=True):
        for row in range(rows):
            for column in range(columns):
                x1, x2 = (column + 0.5 - left) * stride, (column + 0.5 + right) * stride
                y1, y2 = (row + 0.5 - top) * stride, (row + 0.5 + bottom) * stride
                box = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
                first = [(column + 0.5) * stride, (row - 2) * stride, 0.8]
                second = [column * stride, (row + 1) * stride, 0.2]
                expected.append([*box, 0.5, 0.2, 0.8, *first, *second])
    with torch.no_grad():
        found = network(torch.rand(1, 3, HEIGHT, WIDTH))[0].T.numpy()
    assert found.shape == (8 * 12 + 4 * 6 + 2 * 3, 4 + 3 + 6)
    assert np.allclose(found, expected, atol=1e-4)


def test_a_distance_is_the_mean_of_its_distribution():
    logits = torch.zeros(1, 4 * BINS, 1)  # each side alike in all bins: 7.5
    logits[0, 1 * BINS + 3] = logits[0, 1 * BINS + 4] = 1000  # the second side: half 3, half 4
    logits[0, 2 * BINS + 15] = 1000
    with torch.no_grad():
        assert torch.allclose(Distances()(logits), torch.tensor([7.5, 3.5, 15, 7.5]).reshape(1, 4, 1))


def test_each_cell_reads_its_own_place():
    torch.manual_seed(0)
    network = YOLOv8(classes=1, **TINY)
    initialize(network, seed=0)
    network.eval()
    image = torch.rand(1, 3, HEIGHT, WIDTH, requires_grad=True)
    # Row 7, column 11 at stride 8, the last of its level: the gradient of its score is largest near pixel (60, 92).
    network(image)[0, 4, 8 * 12 - 1].backward()
    strength = image.grad[0].abs().sum(0)
    y, x = np.unravel_index(int(strength.argmax()), strength.shape)
    assert y > HEIGHT / 2 and x > WIDTH / 2


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="multiples of 32, not 640x500"):
        YOLOv8(**TINY)(torch.zeros(1, 3, 640, 500))


def test_every_trained_parameter_matters():
    torch.manual_seed(0)
    network = YOLOv8(classes=2, keypoints=2, **TINY).eval()
    network(torch.rand(2, 3, HEIGHT, WIDTH)).square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and not (p.grad.abs().sum() > 0)]
    assert without == []
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["head.distances.mean.weight"]


def test_random_weights_leave_the_distances_and_vary_without_saturating():
    network = YOLOv8(**TINY)
    initialize_random(network, [1, 3, HEIGHT, WIDTH])
    assert network.head.distances.mean.weight.flatten().tolist() == list(range(BINS))
    with torch.no_grad():
        scores = network(torch.rand(1, 3, HEIGHT, WIDTH))[0, 4:]
    assert scores.std() > 1e-4 and scores.max() < 0.999
    assert 0.001 < scores.median() < 0.1


@pytest.mark.parametrize("parameters", [{"classes": 3}, {"classes": 1, "keypoints": 2}])
def test_an_export_decodes_inside_and_computes_the_same(parameters, tmp_path):
    network = YOLOv8(**parameters, **TINY)
    initialize_random(network, [1, 3, HEIGHT, WIDTH])
    path = tmp_path / "model.onnx"
    to_onnx(network, [1, 3, HEIGHT, WIDTH], path)
    model = onnx.load(path)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Softmax"] == 1 and {"Sigmoid", "Concat", "Split", "Reshape", "MaxPool"} <= operators.keys()
    assert not operators.keys() & {"Shape", "Gather", "Range"}, "the cells' places must be constants"
    image = np.random.default_rng(0).uniform(0, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    (found,) = Runner(model).run({"image": image}).values()
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-3)
