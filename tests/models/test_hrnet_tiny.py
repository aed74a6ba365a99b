"""The training of hrnet_tiny: what the network is shown and asked for, and that a run survives an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, nn

from common.basics.errors import UserError
from common.declarations.spec import load_model
from common.preprocessing.preprocess import box_to_center_scale, clip_ground_truth_box, crop_person, normalize
from models.hrnet_tiny import dataset, train
from models.hrnet_tiny.dataset import Crops, render_corpus


@pytest.fixture(scope="module")
def spec():
    return load_model("hrnet_tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "training"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "CHUNK", 4)
        # In this process: the spawned ones would not see the patch.
        patch.setattr(dataset, "ProcessPoolExecutor", InThisProcess)
        render_corpus(folder, "training", 0, people=6)
    return folder


@pytest.fixture
def crops(corpus, spec):
    return Crops(corpus, spec.input, spec.decode.padding)


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class InThisProcess:
    """Stands in for ProcessPoolExecutor."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        class Done:
            def result(self):
                return function(*arguments)

            def cancel(self):
                return True

        return Done()


def test_a_person_is_cropped_exactly_as_at_run_time(crops, spec):
    assert len(crops) >= 6
    for index in range(len(crops)):
        image, box = crops.image(index), crops.arrays["boxes"][index]
        center, scale = box_to_center_scale(clip_ground_truth_box(box, *image.shape[1::-1]), 96 / 128, 1.25)
        tensor, keypoints = crops.person(index)
        assert np.array_equal(tensor, normalize(crop_person(image, center, scale, (96, 128)), spec.input))
        # The middle of the box lands in the middle of the crop, so what is on the person is inside.
        seen = keypoints[keypoints[:, 2] == 2]
        assert ((seen[:, :2] > -1) & (seen[:, :2] < [97, 129])).all()


def test_a_mirrored_person_has_left_and_right_exchanged(crops, monkeypatch):
    monkeypatch.setattr(dataset, "ROTATION", 0.0)
    monkeypatch.setattr(dataset, "SCALE", 0.0)
    monkeypatch.setattr(dataset, "SHIFT", 0.0)
    monkeypatch.setattr(dataset, "_recolor", lambda crop, rng: np.ascontiguousarray(crop))
    plain, keypoints = crops.person(0)
    seen = set()
    for seed in range(12):
        tensor, varied = crops.person(0, np.random.default_rng(seed))
        mirrored = np.array_equal(tensor, plain[:, :, ::-1])
        assert mirrored or np.array_equal(tensor, plain)
        expected = keypoints.copy()
        if mirrored:
            expected[:, 0] = 95 - expected[:, 0]
            pairs = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
            expected = expected[pairs]
        assert varied == pytest.approx(expected)
        seen.add(mirrored)
    assert seen == {True, False}


def test_targets_are_gaussians_at_the_joints(crops):
    keypoints = np.zeros((17, 3))
    keypoints[0] = 40, 60, 2  # heatmap pixel (10, 15)
    keypoints[1] = 42, 60, 1  # between two pixels
    keypoints[2] = 400, 60, 2  # off the map
    maps, weights = crops.targets(keypoints)
    assert maps.shape == (17, 32, 24)
    assert maps[0, 15, 10] == 1
    # Two pixels away with sigma 1.5: exp(-4 / 4.5).
    assert maps[0, 15, 12] == pytest.approx(np.exp(-4 / 4.5))
    assert maps[1, 15, 10] == maps[1, 15, 11] < 1
    assert (weights[:2] > 0).all() and (weights[2:] == 0).all()
    assert weights[1] == pytest.approx(np.sqrt(np.mean(SIGMAS) / 0.025))


SIGMAS = [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
          0.089, 0.089]  # fmt: skip


class Oracle(nn.Module):
    """Answers with the true heatmaps of people 0, 1, 2 ..., moved by `shift` pixels."""

    def __init__(self, crops, shift):
        super().__init__()
        self.answers = iter(np.stack([crops.targets(crops.person(i)[1])[0] for i in range(len(crops))]))
        self.shift = shift

    def forward(self, inputs):
        maps = np.stack([next(self.answers) for _ in inputs])
        return torch.from_numpy(np.roll(maps, self.shift, axis=3))


def test_validation_gives_a_perfect_network_full_marks_and_a_shifted_one_fewer(crops, spec):
    found, mean = train.validate(Oracle(crops, 0), crops, spec)
    assert found == 1.0 and mean > 0.96
    shifted, _ = train.validate(Oracle(crops, 4), crops, spec)
    assert shifted < 0.2


def test_the_learning_rate_warms_up_and_falls():
    assert train.learning_rate(0, 0.0) == pytest.approx(train.PEAK_RATE / train.WARM_UP)
    assert train.learning_rate(train.WARM_UP, 0.0) == pytest.approx(train.PEAK_RATE)
    assert train.learning_rate(9999, 0.5) == pytest.approx(train.PEAK_RATE * 0.505)
    assert train.learning_rate(9999, 1.0) == pytest.approx(train.PEAK_RATE * 0.01)
    assert train.learning_rate(9999, 1.2) == train.learning_rate(9999, 1.0)


def test_the_average_moves_weights_and_batch_norm_statistics():
    old, new = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(new.weight, 3.0)
    new.running_mean.fill_(8.0)
    train.average(old, new, decay=0.75)
    assert old.weight.tolist() == [1.5, 1.5]  # 0.75 * 1 + 0.25 * 3
    assert old.running_mean.tolist() == [2.0, 2.0]


def test_training_learns_and_goes_on_after_an_interruption(crops, spec, tmp_path, one_process):
    weights = tmp_path / "weights" / "hrnet_tiny.pth"
    first = train.Training(spec, tmp_path, weights, seed=0)
    assert not first.resume()
    arrays = [crops.person(i) for i in range(2)]
    targets = [crops.targets(keypoints) for _, keypoints in arrays]
    batch = tuple(
        torch.from_numpy(np.stack(a))
        for a in ([a for a, _ in arrays], [t for t, _ in targets], [w for _, w in targets])
    )
    first.step = train.WARM_UP  # at the full learning rate from the start
    losses = [first.learn(batch, budget=60) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    first.save()
    second = train.Training(spec, tmp_path, weights, seed=1)
    assert second.resume() and second.step == train.WARM_UP + 8
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))
    saved = torch.load(weights, weights_only=True)
    assert torch.equal(saved["conv1.weight"], first.averaged.conv1.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pth", "meeting", "weights"]


def test_a_damaged_checkpoint_is_named(spec, tmp_path):
    Path(tmp_path / "checkpoint.pth").write_bytes(b"not a checkpoint")
    training = train.Training(spec, tmp_path, tmp_path / "w.pth", seed=0)
    with pytest.raises(UserError, match=r"checkpoint\.pth"):
        training.resume()
