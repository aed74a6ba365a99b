"""A folder of photographs that changes while it is calibrated on: said so, and nothing half-made is left."""

import shutil

import cv2
import pytest

from common import calibrate as module
from common.basics.errors import UserError
from common.basics.files import folder_fingerprint, write_json
from common.calibrate import calibrate_cell
from common.job import Cell
from tests.common.image_sets import make_set, picture
from tests.common.tiny_network import make_cell, make_reference


@pytest.fixture
def cell(tmp_path):
    """A cell that asks for a calibration on set/, as common.plan would write it now; there is a calibration already."""
    calibration = make_set(tmp_path / "set", images=12)
    make_reference(tmp_path / "out", make_set(tmp_path / "other", images=4, seed=1))
    folder = make_cell(tmp_path / "out", calibration)
    wanted = {"folder": str(calibration), "fingerprint": folder_fingerprint(calibration), "count": 50, "force": False}
    write_json(folder / "calibration_set.json", wanted)
    (folder / "calib").mkdir()
    (folder / "calib/manifest.json").write_text("of yesterday")
    return Cell(folder)


def add_image(folder):
    shutil.copy(folder / "1.png", folder / "more.png")


def replace_image(folder):
    cv2.imwrite(str(folder / "3.png"), picture(99))


def remove_image(folder):
    (folder / "12.png").unlink()


def half_copied_image(folder):
    (folder / "12.png").write_bytes((folder / "12.png").read_bytes()[:300])


@pytest.mark.parametrize("change", [add_image, replace_image, remove_image, half_copied_image])
@pytest.mark.parametrize("when", ["after the request", "while opened", "while tensors are made", "before the lint"])
def test_a_folder_that_changes_in_mid_run_is_refused(cell, monkeypatch, change, when):
    folder = cell.calibration_folder

    if when == "after the request":
        change(folder)
    else:
        owner, name = {
            "while opened": (module.ImageSet, "open"),
            "while tensors are made": (module, "write_tensors"),
            "before the lint": (module, "lint"),
        }[when]
        real, pending = getattr(owner, name), [change]

        def changing(*arguments):
            if pending:
                pending.pop()(folder)
            return real(*arguments)

        monkeypatch.setattr(owner, name, changing)
    with pytest.raises(UserError, match=r"set changed while the calibration tensors were made") as error:
        calibrate_cell(cell)
    assert "run the same make again" in error.value.hint
    # What was there is there still, whole; nothing of the new one is.
    assert [path.name for path in (cell.folder / "calib").iterdir()] == ["manifest.json"]
    assert not list(cell.folder.glob(".partial*"))


def test_a_folder_that_stays_is_calibrated_on(cell):
    calibrate_cell(cell)
    assert len(list((cell.folder / "calib").glob("*.npy"))) == 12
    add_image(cell.calibration_folder)
    wanted = cell.calibration_request | {"fingerprint": folder_fingerprint(cell.calibration_folder)}
    write_json(cell.folder / "calibration_set.json", wanted)
    calibrate_cell(Cell(cell.folder))  # the next make asks anew
    assert len(list((cell.folder / "calib").glob("*.npy"))) >= 12


def test_a_fault_of_an_unchanged_folder_keeps_its_own_message(cell):
    half_copied_image(cell.calibration_folder)
    wanted = cell.calibration_request | {"fingerprint": folder_fingerprint(cell.calibration_folder)}
    write_json(cell.folder / "calibration_set.json", wanted)
    with pytest.raises(UserError, match=r"12\.png is truncated"):
        calibrate_cell(Cell(cell.folder))
