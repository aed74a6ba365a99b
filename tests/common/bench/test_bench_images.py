"""Sizes and build times of images: what is measured, and what is said where there is nothing to measure."""

from __future__ import annotations

import pytest

from common import image
from common.basics.errors import UserError
from common.bench import images


@pytest.fixture
def engine(monkeypatch):
    """An engine that has the images of two vendor folders; gives the list of builds: (folder, base, fresh)."""
    builds = []
    sizes = {"base:1": 100_000_000}
    monkeypatch.setattr(images, "no_engine", lambda: None)
    monkeypatch.setattr(images.container, "program_for", lambda chip, name: "docker")

    def find(program, tag):
        folder = tag.removeprefix("npumake-").partition(":")[0]
        return ("sha256:1234", "base:1" if folder == "ncnn" else "gone:1") if folder in ("ncnn", "rk3588") else None

    def build(chip, program, tag, base, fresh=False):
        if chip.folder.name == "kl730":
            raise UserError("docker build failed\n | its tail", "hint")
        builds.append((chip.folder.name, base, fresh))
        sizes[tag] = 250_000_000

    monkeypatch.setattr(image, "find_image", find)
    monkeypatch.setattr(image, "build", build)
    monkeypatch.setattr(images, "image_bytes", lambda program, name: sizes.get(name))
    return builds


def test_images_that_are_there_are_built_once_more_with_the_cache(engine):
    measured = images.measure_images()
    assert engine == [("ncnn", "base:1", False), ("rk3588", "gone:1", False)]
    rows = {row["vendor"]: row for row in measured["images"]}
    assert (rows["ncnn"]["bytes"], rows["ncnn"]["base_bytes"]) == (250_000_000, 100_000_000)
    assert rows["ncnn"]["build_seconds"] is None
    assert rows["ncnn"]["rebuild_seconds"] >= 0
    left_out = {row["vendor"]: row["why"] for row in measured["left_out"]}
    assert left_out["bm1684"] == "not built (make image CHIP=bm1684)"
    text = "\n".join(images.image_lines(measured))
    assert "ncnn               250         100           -               0.0" in text
    assert "rk3588             250           -           -               0.0" in text
    assert "left out: image of bm1684: not built (make image CHIP=bm1684)" in text


def test_from_nothing_only_when_asked_and_a_failure_leaves_the_others(engine):
    images.measure_images("ncnn")
    assert engine[0] == ("ncnn", "base:1", True)
    assert [fresh for _, _, fresh in engine].count(True) == 1
    engine.clear()
    measured = images.measure_images("all")
    fresh = [folder for folder, _, fresh in engine if fresh]
    assert sorted([*fresh, "kl730"]) == sorted(chip.folder.name for chip in images.vendor_chips().values())
    assert {"vendor": "kl730", "why": "docker build failed"} in measured["left_out"]
    assert all(row["build_seconds"] is not None for row in measured["images"])
    with pytest.raises(UserError, match="no vendor folder") as caught:
        images.measure_images("nothing")
    assert caught.value.exit_code == 2


def test_without_an_engine_there_is_one_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    measured = images.measure_images()
    assert measured["images"] == []
    (empty, line) = images.image_lines(measured)
    assert empty == ""
    assert line == "images: none measured: there is neither docker nor podman on this machine"
    assert images.image_lines(None) == []


def test_an_engine_that_does_not_answer_is_one_line_too(tmp_path, monkeypatch):
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    images.container.machine_of.cache_clear()
    (_, line) = images.image_lines(images.measure_images())
    assert line.startswith("images: none measured: docker does not answer: Cannot connect to the Docker daemon")
