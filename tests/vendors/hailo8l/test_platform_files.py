"""What the double of HailoRT's Python package refuses of files and of an older runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "hailo8l_platform_rules", Path(__file__).with_name("test_platform_double.py")
)
_rules = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_rules)
platform, run_model, run_streams = _rules.platform, _rules.run_model, _rules.run_streams


def changed(hef: Path, folder: Path, **header: object) -> str:
    """A copy of the .hef with other entries in its header."""
    first, line, model = hef.read_bytes().split(b"\n", 2)
    made = folder / "changed.hef"
    made.write_bytes(b"\n".join([first, json.dumps(json.loads(line) | header).encode(), model]))
    return str(made)


@pytest.mark.parametrize("run", [run_model, run_streams])
def test_files_that_are_refused(platform, compiled, tmp_path, run):
    hef = compiled / "net.double.hef"
    inputs = json.loads(hef.read_bytes().split(b"\n")[1])["inputs"]
    with pytest.raises(FileNotFoundError):
        run(platform, str(tmp_path / "none.hef"))
    for header, said in (
        ({"nms": {"classes": 80}}, "raw tensors only"),
        ({"inputs": inputs * 2}, "one input"),
        ({"blobs": {"model": 7}}, "truncated"),
        ({"blobs": {"model": 7, "other": 8}}, "truncated"),
    ):
        with pytest.raises(AssertionError, match=said):
            run(platform, changed(hef, tmp_path, **header))
    with pytest.raises(platform.HailoRTException, match="hailo15h: HAILO_HEF_NOT_COMPATIBLE"):
        run(platform, changed(hef, tmp_path, arch="hailo15h"))
    run(platform, changed(hef, tmp_path, arch="hailo8"))
    (tmp_path / "cut.hef").write_bytes(hef.read_bytes()[:-1])
    with pytest.raises(AssertionError, match="truncated"):
        run(platform, str(tmp_path / "cut.hef"))
    (tmp_path / "plain.hef").write_bytes(hef.read_bytes()[1:])
    with pytest.raises(AssertionError, match=r"no \.hef of the double"):
        run(platform, str(tmp_path / "plain.hef"))


def test_original_names_of_an_unknown_stream(platform, compiled):
    opened = platform.HEF(str(compiled / "net.double.hef"))
    names = [one.name for one in opened.get_output_vstream_infos()]
    assert all(opened.get_original_names_from_vstream_name(name) for name in names)
    with pytest.raises(platform.HailoRTException, match="no vstream 'small'"):
        opened.get_original_names_from_vstream_name("small")


def test_the_chip_tells_what_it_is_while_the_device_is_open(platform):
    device = platform.VDevice()
    with pytest.raises(AssertionError, match="VDevice is not open"):
        device.get_physical_devices()
    with device:
        assert "HAILO8L" in str(device.get_physical_devices()[0].control.identify())
    with pytest.raises(AssertionError, match="VDevice is not open"):
        device.get_physical_devices()


def test_an_older_runtime_has_the_older_way_alone(compiled, monkeypatch):
    old = _rules.imported(monkeypatch, HAILORT_DOUBLE_OLD="1")
    assert len(run_streams(old, str(compiled / "net.double.hef"))) == 2
    with pytest.raises(AttributeError, match="create_infer_model"):
        run_model(old, str(compiled / "net.double.hef"))


@pytest.mark.parametrize(
    ("call", "run"),
    [
        ("HEF", run_streams),
        ("VDevice", run_model),
        ("VDevice", run_streams),
        ("configure", run_model),
        ("configure", run_streams),
        ("create_infer_model", run_model),
        ("run", run_model),
        ("infer", run_streams),
    ],
)
def test_each_call_fails_where_it_is_told_to(platform, compiled, monkeypatch, call, run):
    monkeypatch.setenv("HAILORT_DOUBLE_FAILS", call)
    with pytest.raises(platform.HailoRTException, match=f"{call} failed"):
        run(platform, str(compiled / "net.double.hef"))
