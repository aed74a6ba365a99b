"""`make draw` and `make video` on what `make demo` built: the proof's figures again, on pictures that one can see."""

import shutil

import cv2
import numpy as np
import pytest

from common.basics.files import read_json
from tests.conftest import Project

FOLDER = "calib/people_evaluation"


@pytest.fixture(scope="module")
def built(demo, tmp_path_factory):
    """A copy of the demo for the tests of this file."""
    target = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(demo[0].folder, target, symlinks=True)
    return Project(target)


def proven(project, variant):
    """{file: the OKS of its people}, as the proof measured them."""
    (cell,) = project.path("out").glob(f"*/*/{variant}/compare.json")
    described = read_json(cell.parents[2] / "float/samples.json")["instances"]
    found = {}
    for instance, agreement in zip(described, read_json(cell)["agreement_instances"], strict=True):
        found.setdefault(instance["file"], []).append(agreement)
    return cell.parents[2].name, cell.parents[1].name, found


def test_a_picture_s_agreement_is_that_of_the_proof(built):
    model, chip, found = proven(built, "int8")
    file = next(file for file, some in found.items() if len(some) > 1)
    done = built.make("draw", f"MODEL={model}", f"CHIP={chip}", "VARIANT=int8", f"IMAGE={FOLDER}/{file}",
                      f"DETECTOR={FOLDER}/person_keypoints.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = f"out/drawn/{file.removesuffix('.jpg')}-{model}-{chip}-int8.png"
    expected = f"{path}: OKS {np.mean(found[file]):.4f} with float, {len(found[file])} people, lowest "
    assert done.stdout.startswith(f"{expected}{min(found[file]):.4f}\n") and not done.stderr
    picture, photograph = cv2.imread(str(built.path(path))), cv2.imread(str(built.path(FOLDER, file)))
    panel = cv2.resize(photograph, (640, 640 * photograph.shape[0] // photograph.shape[1]))
    left = picture[: panel.shape[0], :640].astype(int)
    assert 0.5 < (np.abs(left - panel).max(axis=2) < 12).mean() < 0.99  # the photograph, with something drawn on it


def test_a_pattern_a_folder_of_one_s_own_and_an_apostrophe(built):
    model, chip, _ = proven(built, "fp32")
    mine = built.path("bob's pictures")
    mine.mkdir()
    for number in (1, 2):
        shutil.copy(built.path(FOLDER, f"00000{number}.jpg"), mine)
    words = ["draw", f"MODEL={model}", f"CHIP={chip}", "PRECISION=fp32", "OUT=drawn here"]
    done = built.make(*words, "IMAGE=bob's pictures/*.jpg")
    assert done.returncode == 0, done.stderr
    assert len(list(built.path("drawn here").glob(f"00000[12]-{model}-{chip}-fp32.png"))) == 2
    assert "2 pictures, mean OKS" in done.stdout and "the whole picture taken for one person" in done.stdout


def test_a_clip(built):
    model, chip, _ = proven(built, "int8")
    writer = cv2.VideoWriter(str(built.path("clip.mp4")), cv2.VideoWriter_fourcc(*"mp4v"), 10, (320, 320))
    for path in sorted(built.path(FOLDER).glob("*.jpg"))[:6]:
        writer.write(cv2.resize(cv2.imread(str(path)), (320, 320)))
    writer.release()
    done = built.make("video", f"MODEL={model}", f"CHIP={chip}", "VARIANT=int8", "VIDEO=clip.mp4", "EVERY=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"out/drawn/clip-{model}-{chip}-int8.mp4: 3 frames, 3 people, mean OKS ")
    capture = cv2.VideoCapture(str(built.path(f"out/drawn/clip-{model}-{chip}-int8.mp4")))
    count = 0
    while capture.grab():
        count += 1
    assert count == 3 and capture.get(cv2.CAP_PROP_FPS) == 5
    assert not list(built.path("out").rglob(".partial*"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["CHIP=float"], 2, "IMAGE= is not set"),
        (["IMAGE=none.jpg", "CHIP=float"], 1, "none.jpg does not exist"),
        ([f"IMAGE={FOLDER}/000001.jpg", "CHIP=nothing"], 2, "unknown chip 'nothing'"),
        ([f"IMAGE={FOLDER}/000001.jpg", "CHIP=float", "DETECTOR=nothing"], 2, "DETECTOR=nothing: unknown MODEL"),
    ],
)
def test_a_mistake_is_one_message_and_one_hint(built, words, code, said):
    done = built.make("draw", f"MODEL={proven(built, 'int8')[0]}", *words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert done.returncode == 2 and f"Error {code}" in done.stderr
    assert len(lines) == 2 and lines[0].startswith("ERROR: ") and said in lines[0] and lines[1].startswith("HINT: ")
