"""The outputs themselves in pictures: which maps and rows are drawn, and how."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from common.basics.files import read_json
from common.declarations.keypoints import COCO17
from common.drawing.evidence import load_evidence
from common.drawing.figure import heatmap_figure, output_figure
from common.drawing.maps import maps_of, output_rows
from common.job import Cell
from tests.common.cell_fixture import CHIP
from tests.common.cell_networks import spec_of

pytestmark = pytest.mark.usefixtures("test_chip")


def evidence_of(whole_cells, task, variant):
    return load_evidence(Cell(whole_cells / "out" / task / CHIP / variant))


def test_a_detector_s_maps_are_its_best_class_scores_stride_by_stride(whole_cells):
    evidence = evidence_of(whole_cells, "detection", "fp32")
    maps = maps_of(evidence, 2)
    assert maps.names == ["stride 8", "stride 16", "stride 32"]
    assert [one.shape for one in maps.float_maps] == [(16, 16), (8, 8), (4, 4)]
    logit = evidence.float_outputs["class_16"][2].max()
    assert maps.float_maps[1].max() == pytest.approx(1 / (1 + np.exp(-logit)))
    assert maps.float_maps[0].max() < 1e-4 and maps.top == pytest.approx(maps.float_maps[1].max())
    assert maps.largest_difference == 0


def test_a_bottom_up_network_s_maps_are_the_mean_of_both_stages(whole_cells):
    evidence = evidence_of(whole_cells, "bottomup_pose", "fp32")
    maps = maps_of(evidence, 1)
    assert maps.names == list(COCO17.names) and maps.float_maps[0].shape == (64, 64)
    stages = evidence.float_outputs["heatmaps_and_tags"][1, 9], evidence.float_outputs["heatmaps"][1, 9]
    expected = (cv2.resize(stages[0], (64, 64)) + stages[1]) / 2
    np.testing.assert_allclose(maps.float_maps[9], expected, atol=1e-5)


def test_rows_of_the_outputs(whole_cells):
    rows = output_rows(evidence_of(whole_cells, "detection", "int8"))
    assert [row["name"] for row in rows] == [
        f"{role}, stride {stride}" for stride in (8, 16, 32) for role in ("box", "class")
    ]
    outputs = read_json(whole_cells / "out/detection" / CHIP / "int8/compare.json")["outputs"]
    assert rows[2]["cosine"] == outputs["box_16"]["cosine"]
    equal = output_rows(evidence_of(whole_cells, "bottomup_pose", "fp32"))
    assert {row["sqnr_db"] for row in equal} == {None}
    names = [row["name"] for row in equal]
    assert len(names) == len(set(names)) == 3 * 17
    assert {"nose, 1/4", "tag of nose, 1/4", "nose, 1/2"} <= set(names)


def test_a_pose_detector_has_nine_rows():
    """yolov8n-pose: box, class and keypoints at each stride."""
    spec = spec_of("detection").model_copy(
        update={"decode": spec_of("detection").decode.model_copy(update={"keypoints": "coco17"})}
    )
    measured = {"cosine": 1.0, "sqnr_db": 200.0, "max_abs": 0.0}
    sizes = {8: 16, 16: 8, 32: 4}
    outputs = {f"{role}{s}": np.zeros((1, channels, side, side), np.float32)
               for s, side in sizes.items() for role, channels in (("k", 51), ("c", 3), ("b", 64))}  # fmt: skip
    evidence = SimpleNamespace(
        cell=SimpleNamespace(spec=spec, name="cell"),
        compared={"outputs": dict.fromkeys(outputs, measured)},
        float_outputs=outputs,
    )
    assert [row["name"] for row in output_rows(evidence)][:4] == [
        "box, stride 8", "class, stride 8", "keypoints, stride 8", "box, stride 16",
    ]  # fmt: skip


def test_maps_of_several_sizes_are_one_figure_and_dark_where_nothing_is():
    small, large = np.zeros((4, 4), np.float32), np.zeros((16, 16), np.float32)
    large[3, 9], small[0, 0] = 0.9, 1e-6
    figure = heatmap_figure([large, small], [large, small], ["a", "b"], 0.0, "t", "n", 0.9)
    yellow = (figure == (37, 231, 253)).all(axis=2)  # viridis ends in this yellow, here blue first
    assert yellow[:, : figure.shape[1] // 2].any() and not yellow[:, figure.shape[1] // 2 :].any()


def test_bars_grow_with_the_cosine():
    def ink(cosine):
        picture = output_figure([{"name": "box", "sqnr_db": None, "cosine": cosine}], "t", "n")
        return (picture == (0xE9, 0xB4, 0x56)).all(axis=2).sum()  # 56B4E9

    assert ink(0.9) > 1.5 * ink(0.5) > 0
