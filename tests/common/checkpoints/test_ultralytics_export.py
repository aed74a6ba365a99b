import hashlib
import os
import shutil
import stat
import sys

import onnx
import pytest

import common.checkpoints.ultralytics_export as ultralytics_export
from common.basics.errors import UserError
from common.checkpoints.ultralytics_export import checkpoint_url, export_checkpoint
from common.declarations.spec import model_from_dict
from common.weights import fetch_weights
from tests.common.detectors import detector_onnx, detector_spec
from tests.conftest import ROOT

CHECKPOINT = b"a checkpoint" * 1000


def spec(**weights):
    content = detector_spec().model_dump(mode="json") | {
        "weights": {"file": "spotter.onnx", "export": "ultralytics", "checkpoint": "spotter.pt", "licence": "AGPL-3.0"}
        | weights
    }
    return model_from_dict(content, "test")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project folder and an environment whose `yolo` notes how it was called and gives a prepared graph."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "environment" / "bin"
    place.mkdir(parents=True)
    monkeypatch.setattr(ultralytics_export, "environment", lambda: place / "python")
    folder = tmp_path / "models/spotter/weights"
    folder.mkdir(parents=True)
    (folder / "spotter.pt").write_bytes(CHECKPOINT)
    return folder


def fake_yolo(folder, says, gives=None):
    """Write the environment's `yolo`: it prints its arguments and settings into called.txt, and copies `gives`."""
    root = folder.parents[2]
    copy = f"shutil.copyfile({str(gives)!r}, 'spotter.onnx')" if gives else "sys.exit(3)"
    script = root / "environment" / "bin" / "yolo"
    script.write_text(
        f"#!{sys.executable}\nimport os, shutil, sys\n"
        f"words = sys.argv[1:] + [os.environ.get(k, '') for k in ('YOLO_OFFLINE', 'YOLO_AUTOINSTALL')]\n"
        f"open({str(root / 'called.txt')!r}, 'w').write('\\n'.join(words))\n"
        f"assert open('spotter.pt', 'rb').read() == {CHECKPOINT!r}\nprint({says!r})\n{copy}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return root / "called.txt"


def test_the_licence_comes_first_and_the_export_is_checked(folder, tmp_path, capsys):
    onnx.save(detector_onnx(), tmp_path / "prepared.onnx")
    called = fake_yolo(folder, "exported", tmp_path / "prepared.onnx")
    path = fetch_weights(spec())
    assert path.read_bytes() == (tmp_path / "prepared.onnx").read_bytes()
    assert sorted(os.listdir(folder)) == ["spotter.onnx", "spotter.pt"], "nothing else is left"
    words = called.read_text().splitlines()
    for word in ("export", "format=onnx", "opset=11", "imgsz=64,64", "dynamic=False", "nms=False", "true", "false"):
        assert word in words
    said = capsys.readouterr().out
    assert said.index("AGPL-3.0") < said.index("complete")
    called.unlink()
    assert fetch_weights(spec()) == path and not called.exists(), "an export that is there is not made again"


@pytest.mark.parametrize(
    ("classes", "said"), [(3, "expects 6"), (None, "could not export .*spotter.pt: Traceback / it broke")]
)
def test_what_comes_out_wrong_is_not_kept(folder, tmp_path, classes, said):
    if classes:
        onnx.save(detector_onnx(classes), tmp_path / "prepared.onnx")
        fake_yolo(folder, "exported", tmp_path / "prepared.onnx")
    else:
        fake_yolo(folder, "Traceback\nit broke")
    with pytest.raises(UserError, match=said) as caught:
        fetch_weights(spec())
    assert caught.value.hint and os.listdir(folder) == ["spotter.pt"]


def test_a_page_instead_of_the_checkpoint_is_named(folder):
    (folder / "spotter.pt").write_bytes(b"<html>Not Found</html>")
    with pytest.raises(UserError, match="HTML"):
        fetch_weights(spec())


def test_without_a_network_the_hint_names_the_checkpoint_and_its_place(folder):
    (folder / "spotter.pt").unlink()
    with pytest.raises(UserError, match="cannot be downloaded") as caught:
        fetch_weights(spec(url="http://127.0.0.1:9/spotter.pt"))
    assert "models/spotter/weights/spotter.pt" in caught.value.hint and "WEIGHTS=file.onnx" in caught.value.hint


def test_a_downloaded_checkpoint_of_another_hash_is_not_executed(folder, tmp_path, monkeypatch):
    (folder / "spotter.pt").unlink()
    monkeypatch.setattr("common.weights.download", lambda url, partial, hint: partial.write_bytes(b"something else"))
    fake_yolo(folder, "", None)
    with pytest.raises(UserError, match="SHA-256"):
        fetch_weights(spec(url="http://127.0.0.1:9/x", sha256=hashlib.sha256(CHECKPOINT).hexdigest()))
    assert not (tmp_path / "called.txt").exists()


def test_the_place_of_the_checkpoint():
    assert checkpoint_url(spec().weights).endswith("/v8.4.0/spotter.pt")
    assert checkpoint_url(spec(checkpoint=None).weights).endswith("/v8.4.0/spotter.pt")
    assert checkpoint_url(spec(url="http://127.0.0.1/x.pt").weights) == "http://127.0.0.1/x.pt"


def test_the_environment_is_made_once_and_again_when_its_pins_change(tmp_path, monkeypatch):
    made = []

    def run(command, **options):
        made.append(command)
        (tmp_path / "env").mkdir(exist_ok=True)
        (tmp_path / "env" / "ready").touch()
        return type("Done", (), {"returncode": 0})

    pins = tmp_path / "pins.txt"
    pins.write_text("ultralytics==1\n")
    monkeypatch.setattr(ultralytics_export, "ENVIRONMENT", tmp_path / "env")
    monkeypatch.setattr(ultralytics_export, "REQUIREMENTS", pins)
    monkeypatch.setattr(ultralytics_export, "NO_DEPENDENCIES", pins)
    monkeypatch.setattr(ultralytics_export.subprocess, "run", run)
    assert ultralytics_export.environment() == tmp_path / "env" / "bin" / "python"
    ultralytics_export.environment()
    assert len(made) == 1 and str(pins) in made[0] and "common/environment.py" in made[0][1]
    later = (tmp_path / "env" / "ready").stat().st_mtime + 5
    os.utime(pins, (later, later))
    ultralytics_export.environment()
    assert len(made) == 2
    monkeypatch.setattr(ultralytics_export.subprocess, "run", lambda *a, **k: type("Done", (), {"returncode": 1}))
    shutil.rmtree(tmp_path / "env")
    with pytest.raises(UserError, match="could not be made"):
        ultralytics_export.environment()


@pytest.mark.parametrize("name", ["requirements-ultralytics.txt", "requirements-ultralytics-no-deps.txt"])
def test_every_package_is_pinned(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    assert all("==" in line for line in lines if line)
    shared = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split() if line.count("==") == 1)
    for line in filter(None, lines):
        package, version = line.split("==")
        assert shared.get(package, version) == version, f"{package} is another one than npumake's own"


def test_an_export_into_a_folder_that_has_one_replaces_it(folder, tmp_path):
    onnx.save(detector_onnx(opset=17), tmp_path / "prepared.onnx")
    fake_yolo(folder, "", tmp_path / "prepared.onnx")
    (folder / "spotter.onnx").write_bytes(b"old")
    export_checkpoint(spec(), folder / "spotter.pt", folder / "spotter.onnx")
    assert (folder / "spotter.onnx").read_bytes() == (tmp_path / "prepared.onnx").read_bytes()
