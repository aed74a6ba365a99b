"""The overlapped pipeline: order, errors, bounded memory, and the same bits as one step after the other."""

import threading
import time

import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.progress import Progress, duration
from common.datasets.imageset import ImageSet
from common.evaluation.streaming import FixedInput, pipelined, stream
from common.graphs.onnx_graph import Runner
from common.samples import network_inputs
from common.tasks import task_of
from tests.common.image_sets import make_set, pose_spec
from tests.common.tiny_network import tiny_network


def test_items_come_in_order_whatever_takes_long():
    random = np.random.default_rng(3)
    waits = random.random((3, 40)) / 200

    def slowly(stage, index):
        time.sleep(waits[stage, index])
        return index

    found = list(
        pipelined(
            range(40),
            lambda item: slowly(0, item),
            lambda prepared: slowly(1, prepared) * 10,
            lambda item, output: (slowly(2, item), output),
        )
    )
    assert found == [(item, (item, item * 10)) for item in range(40)]


def test_reading_runs_ahead_but_not_far():
    begun, waiting_to_run = [], []

    def prepare(item):
        begun.append(item)
        return item

    def run(item):
        time.sleep(0.01)  # slow enough for the reader to be as far ahead as it may
        waiting_to_run.append(len(begun) - item)
        return item

    assert len(list(pipelined(range(30), prepare, run, lambda item, output: output, ahead=3))) == 30
    assert 1 < max(waiting_to_run) <= 3


@pytest.mark.parametrize("stage", ["prepare", "run", "finish"])
def test_an_error_of_any_stage_comes_out_in_its_turn_and_the_threads_end(stage):
    def broken(name):
        def work(*values):
            if name == stage and values[0] == 5:
                raise UserError("image 5 is truncated")
            return values[0]

        return work

    seen = []
    with pytest.raises(UserError, match="image 5"):
        for item, _ in pipelined(range(20), broken("prepare"), broken("run"), broken("finish")):
            seen.append(item)
    # Whatever was finished before may still be on its way, but never out of order, and never the broken one.
    assert seen == list(range(len(seen))) and len(seen) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "decoder"))]


def test_an_interruption_ends_the_threads():
    def interrupted(value):
        if value == 2:
            raise KeyboardInterrupt
        return value

    with pytest.raises(KeyboardInterrupt):
        list(pipelined(range(9), lambda item: item, interrupted, lambda item, output: output))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "decoder"))]


@pytest.fixture()
def people(tmp_path):
    """A set of 5 images with 2 people each, its task, and a tiny network."""
    image_set = ImageSet.open(make_set(tmp_path / "set", images=5, people=2))
    return image_set, task_of(pose_spec()), Runner(tiny_network(tmp_path / "model.onnx"))


def runs(network):
    return lambda inputs: [network.run_once({"image": tensor}) for tensor in inputs]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_same_bits_as_one_step_after_the_other(people, size):
    image_set, task, network = people
    instances = task.instances(image_set)
    batches = [range(start, min(start + size, 10)) for start in range(0, 10, size)]
    parts = [
        (batch, found) for batch, found in stream(image_set, instances, batches, FixedInput(task, False), runs(network))
    ]
    assert [batch for batch, _ in parts] == batches
    plain = task.decode(network.run({"image": network_inputs(image_set, instances, task)}), instances)
    np.testing.assert_array_equal(np.concatenate([found.keypoints for _, found in parts]), plain.keypoints)
    np.testing.assert_array_equal(np.concatenate([found.scores for _, found in parts]), plain.scores)


def test_the_flip_test_shows_the_mirror_image_too(people):
    image_set, task, network = people
    instances = task.instances(image_set)
    shown = []

    def run(inputs):
        shown.extend(inputs)
        return runs(network)(inputs)

    ((_, found),) = stream(image_set, instances, [range(10)], FixedInput(task, True), run)
    inputs = network_inputs(image_set, instances, task)
    np.testing.assert_array_equal(np.concatenate(shown[0::2]), inputs)
    np.testing.assert_array_equal(np.concatenate(shown[1::2]), inputs[..., ::-1])
    plain = task.decode(network.run({"image": inputs}), instances, network.run({"image": inputs[..., ::-1]}))
    np.testing.assert_array_equal(found.keypoints, plain.keypoints)


def test_an_image_is_decoded_once_for_all_its_people(people, monkeypatch):
    image_set, task, network = people
    read = []
    original = ImageSet.read
    monkeypatch.setattr(ImageSet, "read", lambda self, instance: read.append(instance.file) or original(self, instance))
    batches = [range(start, start + 3) for start in (0, 3, 6)] + [range(9, 10)]
    list(stream(image_set, task.instances(image_set), batches, FixedInput(task, False), runs(network)))
    assert read == ["1.png", "2.png", "3.png", "4.png", "5.png"]


def test_a_damaged_image_is_named(people):
    image_set, task, network = people
    path = image_set.path("4.png")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"4\.png is truncated"):
        list(stream(image_set, task.instances(image_set), [range(10)], FixedInput(task, False), runs(network)))


def test_too_few_outputs_are_noticed(people):
    image_set, task, network = people
    with pytest.raises(UserError, match="9 outputs for 10 inputs"):
        list(
            stream(
                image_set,
                task.instances(image_set),
                [range(10)],
                FixedInput(task, False),
                lambda inputs: runs(network)(inputs)[1:],
            )
        )


def test_progress_in_words_when_nobody_watches(capsys, monkeypatch):
    progress = Progress("eval", 1000, 100, "people")
    progress.advance(100)
    assert capsys.readouterr().err == ""  # too early to say anything
    monkeypatch.setattr("common.basics.progress.LINE_EVERY", 0.0)
    progress.advance(100)
    assert "eval: 300 of 1000 people (30 %), " in capsys.readouterr().err
    assert progress.line(100.0) == "300 of 1000 people (30 %), 6 min left"  # 200 in 100 s: 700 in 350 s
    progress.close()  # else its thread goes on telling how long it takes, in the middle of the tests' own output
    assert [duration(seconds) for seconds in (3, 600, 7200)] == ["3 s", "10 min", "2.0 h"]
