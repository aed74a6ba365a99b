"""Which network `make eval` means, how a chip is run by it, and what its variables may say."""

import json
import sys

import numpy as np
import pytest

from common import full_evaluation
from common.basics.errors import UserError
from common.basics.files import read_json, sha256_file, write_json
from common.declarations.spec import model_from_dict
from common.engines import engine
from common.evaluation import evaluated_network
from common.evaluation.evaluated_network import ChipNetwork, FloatNetwork, find_network
from common.full_evaluation import Asked, evaluate, parse_scales, parse_shard, request_name
from common.graphs.onnx_graph import run_onnx
from common.job import Cell, FloatReference
from common.samples import load_arrays
from common.tasks import task_of
from tests.common.image_sets import make_set
from tests.common.tiny_network import make_cell, make_reference


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Three people in a piece."""
    monkeypatch.setattr(full_evaluation, "CHUNK_BYTES", 3 * 4 * 3 * 64 * 48)


@pytest.fixture()
def folder(tmp_path):
    """10 images of 2 people each."""
    return make_set(tmp_path / "set", images=10, people=2)


@pytest.fixture()
def network(tmp_path, folder):
    return FloatNetwork(FloatReference(make_reference(tmp_path / "out", folder)))


@pytest.fixture()
def chip(tmp_path, network, monkeypatch):
    """A compiled cell whose simulator is onnxruntime; the sizes of what it was asked to run."""
    folder = make_cell(tmp_path / "out")
    (folder / "artifact.bin").write_bytes(b"compiled")
    known = {"artifact.bin": {"bytes": 8, "sha256": sha256_file(folder / "artifact.bin")}}
    write_json(folder / "compile.json", {"artifact": ["artifact.bin"], "files": known})
    write_json(folder / "job.json", {"inputs": [{"name": "image"}]})
    sizes = []

    def infer(cell_folder, samples, outputs):
        inputs = load_arrays(samples)
        sizes.append(len(inputs["image"]))
        np.savez(outputs, **run_onnx(network.folder / "model.onnx", inputs))

    monkeypatch.setattr(engine, "infer", infer)
    return folder, sizes


def test_a_chip_gets_whole_pieces_and_a_lossless_one_the_floats_numbers(chip, network, folder):
    expected = json.loads((evaluate(network, Asked(folder, flip=True)) / "metrics.json").read_text())
    place, sizes = chip
    where = evaluate(ChipNetwork(Cell(place)), Asked(folder, flip=True))
    assert where == place / "eval" / "set-gt-flip"
    assert read_json(where / "metrics.json")["numbers"] == expected["numbers"] and sizes == [2] * 20
    evaluate(ChipNetwork(Cell(place)), Asked(folder))
    assert sizes[20:] == [3] * 6 + [2]
    assert not list(place.glob(".partial*"))


def test_a_changed_artifact_is_refused(chip):
    place, _ = chip
    (place / "artifact.bin").write_bytes(b"other...")
    with pytest.raises(UserError, match=r"artifact\.bin is not the file"):
        ChipNetwork(Cell(place))


def test_a_chip_that_gives_too_few_outputs(chip, folder, monkeypatch):
    place, _ = chip
    monkeypatch.setattr(
        engine, "infer", lambda cell, samples, outputs: np.savez(outputs, heatmaps=np.zeros((1, 17, 16, 12)))
    )
    with pytest.raises(UserError, match=r"\[1\] outputs for 3 inputs"):
        evaluate(ChipNetwork(Cell(place)), Asked(folder))


def test_what_is_not_built_says_how_to_build_it(tmp_path, monkeypatch, test_chip):
    monkeypatch.setattr(evaluated_network.plan, "OUT", tmp_path / "out")
    for arguments, expected in (
        (("hrnet_tiny", "", "", "float", ""), "MODEL=hrnet_tiny, or any other chip"),
        (("hrnet_tiny", "", "", "testchip", "int8"), "make testchip MODEL=hrnet_tiny PRECISION=int8"),
    ):
        with pytest.raises(UserError, match="has not been built") as caught:
            find_network(*arguments)
        assert expected in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("hrnet_tiny", "", "", "", ""), "CHIP= is not set"),
        (("hrnet_tinny", "", "", "float", ""), "unknown MODEL 'hrnet_tinny'"),
        (("hrnet_tiny", "", "", "testchop", ""), "unknown chip 'testchop'"),
        (("hrnet_tiny", "", "", "testchip", ""), "which variant"),
        (("hrnet_tiny", "", "", "testchip", "int3"), "does not build precision 'int3'"),
    ],
)
def test_a_wrong_name(test_chip, arguments, expected):
    with pytest.raises(UserError, match=expected) as caught:
        find_network(*arguments)
    assert caught.value.exit_code == 2 and caught.value.hint


def test_scales_are_for_bottom_up_networks(network, folder):
    with pytest.raises(UserError, match="SCALES= is for a bottom-up network") as caught:
        evaluate(network, Asked(folder, scales=(1.0, 2.0)))
    assert caught.value.exit_code == 2


def test_a_detector_has_no_flip_test(network):
    content = {
        "name": "detector",
        "task": "detection",
        "input": {"shape": [1, 3, 64, 64], "color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "decode": {"kind": "yolov8", "classes": ["person"]},
    }
    network.task = task_of(model_from_dict(content, "the test"))
    with pytest.raises(UserError, match="has no flip test") as caught:
        network.method(True, None)
    assert caught.value.exit_code == 2 and network.method(False, None).share == 1


def test_what_the_variables_may_say():
    assert parse_shard("") is None and parse_shard("3/16") == (3, 16)
    for text in ("0/3", "4/3", "1", "a/b", "1/0", "-1/3"):
        with pytest.raises(UserError, match="SHARD="):
            parse_shard(text)
    assert parse_scales("") is None and parse_scales("2,0.5,1") == (0.5, 1.0, 2.0)
    for text in ("a", "0", "1,,2", "-1", "9"):
        with pytest.raises(UserError, match="SCALES="):
            parse_scales(text)
    request = {"set": {"name": "my set"}, "boxes": "detections", "flip": True, "limit": 500, "scales": [0.5, 1, 2]}
    assert request_name(request) == "my_set-detections-flip-scales0.5_1_2-first500"


def test_the_command_line(network, folder, monkeypatch, capsys):
    monkeypatch.setattr(full_evaluation, "find_network", lambda *names: network)
    words = ["full_evaluation", "--eval", str(folder), "--model", "x", "--chip", "float", "--limit", "3", "--flip", ""]
    monkeypatch.setattr(sys, "argv", words)
    full_evaluation.main()
    assert "6 inputs from 3 images" in capsys.readouterr().out
    assert read_json(network.folder / "eval" / "set-gt-first3" / "request.json")["limit"] == 3
    for variable, value in (("--limit", "0"), ("--flip", "yes"), ("--boxes", "all"), ("--shard", "9")):
        monkeypatch.setattr(sys, "argv", [*words, variable, value])
        with pytest.raises(UserError) as caught:
            full_evaluation.main()
        assert caught.value.exit_code == 2
