"""`make video`: clips written by the test with a red dot that moves, looked at by networks that find it."""

import sys

import cv2
import numpy as np
import pytest

from common import video
from common.basics.errors import UserError
from common.datasets import video_file
from common.datasets.video_file import Clip, clip_path, usable_encoders, writing_clip
from common.drawing import networks as draw_networks
from common.drawing.person_boxes import Detected, WholePicture
from common.video import draw_clip
from tests.common.dot_networks import DotDetector, dotted, refused, sides_of
from tests.common.test_draw_photo import drawn_at

SIZE, COUNT, RATE = (160, 120), 12, 12.5


def place(number):
    """Where the dot is in a frame."""
    return 20 + 10 * number, 60


def save_clip(path, count=COUNT, letters="mp4v", rate=RATE):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*letters), rate, SIZE)
    for number in range(count):
        writer.write(dotted(*SIZE, place(number)))
    writer.release()
    return path


def read_clip(path):
    """(all frames, frames a second), by OpenCV alone."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, rate


@pytest.fixture()
def clip(tmp_path):
    return Clip(save_clip(tmp_path / "clip.mp4"))


def left_alone(folder, *names):
    """Nothing but these files is there."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_every_frame_float_left_chip_right(clip, tmp_path):
    target = tmp_path / "out.mp4"
    said = draw_clip(sides_of(shift=4), WholePicture("one person"), clip, target)
    frames, rate = read_clip(target)
    assert len(frames) == COUNT and rate == pytest.approx(RATE)
    assert frames[0].shape[1] == 2 * 480 + 4 and frames[0].shape[0] % 2 == 0
    for number, frame in enumerate(frames):
        x, y = (round(3 * value) for value in place(number))
        moved = round(3 * 4 * 200 / 24) + 484 + x  # a heatmap of 24 columns for 1.25 times 160 pixels
        assert drawn_at(frame, x, y, 6) and not drawn_at(frame, x + 484, y, 6), number
        assert moved + 6 > frame.shape[1] or drawn_at(frame, moved, y, 6), number
    assert said.startswith("12 frames, 12 people, mean OKS 0.") and "12.5 frames a second, without sound" in said
    assert "\none person\n" in said and "in the vendor's simulator" in said and "no speed of the chip" in said
    assert left_alone(tmp_path, "clip.mp4", "out.mp4")


def test_each_third_frame_lasts_three_times_as_long(clip, tmp_path):
    said = draw_clip(sides_of(), WholePicture(), clip, tmp_path / "out.mp4", every=3)
    frames, rate = read_clip(tmp_path / "out.mp4")
    assert len(frames) == 4 and rate == pytest.approx(RATE / 3, rel=1e-3)
    assert all(drawn_at(frame, 3 * place(3 * number)[0], 180, 6) for number, frame in enumerate(frames))
    assert "4 frames, 4 people, mean OKS 1.0000 with float; 4.167 frames a second" in said
    draw_clip(sides_of(chip=False), WholePicture(), clip, tmp_path / "out.mp4", every=2, limit=2)
    frames, _ = read_clip(tmp_path / "out.mp4")
    assert len(frames) == 2 and drawn_at(frames[1], 20 + 3 * place(2)[0], 180, 6)  # 520 wide: 20 of ground left


def test_a_detector_and_a_network_of_whole_frames(clip, tmp_path):
    said = draw_clip(sides_of(), Detected(DotDetector()), clip, tmp_path / "out.mp4")
    assert "12 people, mean OKS 1.0000" in said and "people found by finder float" in said
    sides = sides_of(3, True, DotDetector)
    said = draw_clip(sides, WholePicture(), clip, tmp_path / "out.mp4")
    assert "12 objects, mean IoU 0." in said


def test_frames_stream_through(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(draw_networks, "CHUNK_FRAMES", 5)
    held, most, written = [0], [0], []
    frames, write = Clip.frames, video_file.ClipWriter.write

    def counted(self, every, limit):
        for item in frames(self, every, limit):
            held[0] += 1
            most[0] = max(most[0], held[0])
            yield item

    def count_written(self, image):
        held[0] -= 1
        written.append(image.shape)
        write(self, image)

    monkeypatch.setattr(Clip, "frames", counted)
    monkeypatch.setattr(video_file.ClipWriter, "write", count_written)
    sides = sides_of()
    draw_clip(sides, WholePicture(), clip, tmp_path / "out.mp4")
    assert most[0] == 5 and len(written) == COUNT and sides.chip.ran == [5, 5, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("the simulator broke", "see its log")])
def test_what_stops_half_way_leaves_nothing(clip, tmp_path, monkeypatch, error):
    monkeypatch.setattr(draw_networks, "CHUNK_FRAMES", 5)
    sides = sides_of()
    run = sides.chip.run

    def stops(inputs):
        if len(sides.chip.ran) == 1:
            raise error
        return run(inputs)

    monkeypatch.setattr(sides.chip, "run", stops)
    (tmp_path / "old.mp4").write_bytes(b"of before")
    for name in ("new.mp4", "old.mp4"):
        sides.chip.ran.clear()
        with pytest.raises(type(error)):
            draw_clip(sides, WholePicture(), clip, tmp_path / name)
    assert left_alone(tmp_path, "clip.mp4", "old.mp4") and (tmp_path / "old.mp4").read_bytes() == b"of before"


def test_frames_of_several_sizes_are_refused(tmp_path):
    images = [dotted(160, 120 + 40 * (number > 2), (50, 50)) for number in range(5)]
    data = b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images)
    (tmp_path / "odd.mjpeg").write_bytes(data)
    clip = Clip(tmp_path / "odd.mjpeg")
    assert clip.total == 5  # no header says so: counted
    message = refused(draw_clip, sides_of(), WholePicture(), clip, tmp_path / "out.mp4")
    assert "frame 3 has 160x160 pixels, the first one 160x120" in message
    assert left_alone(tmp_path, "odd.mjpeg")


@pytest.mark.parametrize(
    ("content", "expected", "code"),
    [(None, "does not exist", 1), (b"", "is empty", 1), (b"<html>no clip</html>" * 99, "no clip that can be read", 1),
     ("folder", "is a folder", 2), ("picture", "is a picture", 2), ("cut", "no clip that can be read", 1)],
)  # fmt: skip
def test_what_is_no_clip(tmp_path, capfd, content, expected, code):
    path = tmp_path / "film.mp4"
    if content == "folder":
        path.mkdir()
    elif content == "picture":
        path.write_bytes(cv2.imencode(".png", dotted(20, 20))[1].tobytes())
    elif content == "cut":  # an MP4's index is at its end
        path.write_bytes(save_clip(tmp_path / "whole.mp4").read_bytes()[:-800])
    elif content is not None:
        path.write_bytes(content)
    assert expected in refused(Clip, path, code=code)
    assert capfd.readouterr().err == ""  # FFmpeg's own words stay out of it


def test_a_clip_that_was_cut_off_is_drawn_as_far_as_it_goes(tmp_path, capsys):
    whole = save_clip(tmp_path / "whole.avi", 40, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    said = draw_clip(sides_of(chip=False), WholePicture(), Clip(tmp_path / "cut.avi"), tmp_path / "out.mp4")
    frames, _ = read_clip(tmp_path / "out.mp4")
    assert 5 < len(frames) < 30 and said.startswith(f"{len(frames)} frames")
    assert "of 40 frames: damaged or cut off" in capsys.readouterr().err


def test_the_second_encoder_is_taken_where_the_first_one_is_missing(tmp_path, monkeypatch):
    assert usable_encoders() == list(video_file.ENCODERS)
    target = tmp_path / "out.mp4"
    assert clip_path(target, False) == target
    assert "is no .mp4 or .avi file" in refused(clip_path, tmp_path / "out.gif", True, code=2)
    monkeypatch.setattr(video_file, "ENCODERS", ((".mp4", "none"), (".avi", "MJPG")))
    assert clip_path(target, False) == tmp_path / "out.avi"
    assert "no encoder for .mp4" in refused(clip_path, target, True)
    clip = Clip(save_clip(tmp_path / "clip.mp4"))
    draw_clip(sides_of(), WholePicture(), clip, tmp_path / "out.avi")
    frames, rate = read_clip(tmp_path / "out.avi")
    assert len(frames) == COUNT and rate == pytest.approx(RATE)
    monkeypatch.setattr(video_file, "ENCODERS", ((".mp4", "none"),))
    assert "no encoder for .mp4" in refused(clip_path, target, False)


def test_a_clip_that_came_out_short_is_no_clip(tmp_path):
    def write(lost):
        with writing_clip(tmp_path / "out.mp4", 25) as writer:
            for _ in range(4):
                writer.write(np.zeros((64, 64, 3), np.uint8))
            writer.count += lost

    assert "only 4 of 5 frames were written" in refused(write, 1)
    assert not list(tmp_path.iterdir())
    write(0)
    with pytest.raises(ValueError, match=r"\(32, 64\)"), writing_clip(tmp_path / "out.mp4", 25) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.write(np.zeros((64, 32, 3), np.uint8))
    assert len(read_clip(tmp_path / "out.mp4")[0]) == 4


def test_the_clip_itself_is_not_written_over(clip):
    assert "is the clip itself" in refused(draw_clip, sides_of(), WholePicture(), clip, clip.path, code=2)
    assert len(read_clip(clip.path)[0]) == COUNT


def test_the_command_line(tmp_path, monkeypatch, capsys, clip):
    monkeypatch.setattr(video.plan, "OUT", tmp_path / "out")
    monkeypatch.setattr(video, "find_sides", lambda *names: sides_of() if names[3:] == ("testchip", "int8") else None)
    words = ["video", "--model", "x", "--chip", "testchip", "--variant", "int8", "--detector", "", "--every", "4"]
    monkeypatch.setattr(sys, "argv", [*words, "--video", str(clip.path), "--limit", "2", "--out", ""])
    video.main()
    target = tmp_path / "out/drawn/clip-tester-testchip-int8.mp4"
    said = capsys.readouterr()
    assert said.out.startswith(f"{target}: 2 frames, 2 people") and said.err == ""  # no bar where nobody watches
    assert len(read_clip(target)[0]) == 2
    for more in (["--video", ""], ["--every", "0"], ["--limit", "x"]):
        monkeypatch.setattr(sys, "argv", [*words, "--video", str(clip.path), *more])
        refused(video.main, code=2)
