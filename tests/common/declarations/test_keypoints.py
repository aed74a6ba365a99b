import numpy as np
import pytest
from pycocotools.cocoeval import Params

from common.basics.errors import UserError
from common.declarations.keypoints import COCO17, KEYPOINT_SETS, MPII16, keypoint_set


def test_coco_sigmas_are_those_of_pycocotools():
    np.testing.assert_allclose(COCO17.sigmas, Params("keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_pairs_join_left_and_right_of_the_same_joint(keypoints):
    paired = set()
    for first, second in keypoints.flip_pairs:
        names = {keypoints.names[first], keypoints.names[second]}
        joint = keypoints.names[first].split("_", 1)[1]
        assert names == {f"left_{joint}", f"right_{joint}"}
        paired |= {first, second}
    sided = {index for index, name in enumerate(keypoints.names) if name.startswith(("left_", "right_"))}
    assert paired == sided


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_sigmas_and_edges_are_symmetric(keypoints):
    order = keypoints.flip_order
    np.testing.assert_array_equal(order[order], np.arange(keypoints.count))
    np.testing.assert_array_equal(keypoints.sigmas[order], keypoints.sigmas)
    edges = {frozenset(edge) for edge in keypoints.edges}
    assert {frozenset(int(order[joint]) for joint in edge) for edge in edges} == edges


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=KEYPOINT_SETS)
def test_edges_connect_every_joint(keypoints):
    reached = {0}
    for _ in keypoints.edges:
        reached |= {joint for edge in keypoints.edges if reached & set(edge) for joint in edge}
    assert reached == set(range(keypoints.count))


def test_counts():
    assert COCO17.count == 17 and len(COCO17.edges) == 19 and len(COCO17.sigmas) == 17
    assert MPII16.count == 16 and len(MPII16.sigmas) == 16


def test_unknown_set_lists_the_known_ones():
    with pytest.raises(UserError, match="coco18") as caught:
        keypoint_set("coco18")
    assert "coco17" in caught.value.hint
