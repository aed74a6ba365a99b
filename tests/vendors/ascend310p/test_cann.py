"""Finding CANN, its stand-in of the driver and its version; and installing AMCT from the user's archive."""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import tarfile
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("ascend310p_conftest_cann", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

cann, install_amct, amct_session, failure = _conftest.load("cann", "install_amct", "amct_session", "failure")
VendorError = failure.VendorError
MACHINE = platform.machine()
ARCHIVE = f"Ascend-cann-amct_8.5.0_linux-{MACHINE}.tar.gz"


def toolkit(folder: Path, stub: str) -> Path:
    """A CANN as it lies on a disk; stub: where the stand-in of the driver is."""
    root = folder / "Ascend" / "cann-8.5.0"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "atc").write_text("#!/bin/sh\n")
    (root / "bin" / "atc").chmod(0o755)
    (root / stub).mkdir(parents=True)
    (root / stub / "libascend_hal.so").write_text("")
    (root / "version.cfg").write_text("runtime_running_version=[7.9.0:8.5.0]\n")
    return root


@pytest.mark.parametrize(
    "stub",
    [f"{MACHINE}-linux/devlib/linux/{MACHINE}", f"{MACHINE}-linux/devlib/{MACHINE}", "runtime/lib64/stub",
     f"tools/new/devlib/{MACHINE}"],
)  # fmt: skip
def test_the_stand_in_of_the_driver_is_found_wherever_a_version_has_it(tmp_path, monkeypatch, stub):
    root = toolkit(tmp_path, stub)
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "libascend_hal.so").write_text("")  # no stand-in: neither "devlib" nor "stub" in its path
    monkeypatch.setenv("PATH", f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/before")
    found = cann.find_cann()
    assert found.stub == root / stub and found.version == "8.5.0" and found.atc == root / "bin" / "atc"
    assert found.environment["LD_LIBRARY_PATH"] == f"{root / stub}{os.pathsep}/before"
    assert int(found.environment["MAX_COMPILE_CORE_NUMBER"]) <= 2


def test_with_a_driver_no_stand_in_is_used(tmp_path, monkeypatch):
    root = toolkit(tmp_path, f"{MACHINE}-linux/devlib")
    monkeypatch.setenv("PATH", f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cann, "NPU_MANAGER", tmp_path)
    assert cann.find_cann().stub is None


def test_set_env_is_sourced_where_nobody_did(tmp_path, monkeypatch):
    root = toolkit(tmp_path, f"{MACHINE}-linux/devlib")
    script = root / "set_env.sh"
    script.write_text(f'export PATH="{root}/bin:$PATH"\nexport OTHER="$NOT_SET two\nlines"\n')
    monkeypatch.setattr(cann, "SET_ENV_PLACES", (str(script),))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = cann.find_cann()
    assert found.atc == root / "bin" / "atc" and found.environment["OTHER"] == " two\nlines"


def test_without_cann_or_its_stand_in_the_way_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(cann, "SET_ENV_PLACES", ())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(VendorError, match="not on PATH") as raised:
        cann.find_cann()
    assert "container" in raised.value.hint
    root = toolkit(tmp_path, "lib64")
    monkeypatch.setenv("PATH", f"{root / 'bin'}:/usr/bin:/bin")
    with pytest.raises(VendorError, match="no stand-in of libascend_hal") as raised:
        cann.find_cann()
    assert "LD_LIBRARY_PATH" in raised.value.hint


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path


def inner(files: dict[str, bytes], folder: Path) -> bytes:
    return archive(folder / "inner.tar.gz", files).read_bytes()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["amct.zip"], ["amct.zip is not named"]),
        (["Ascend-cann-amct_6.0.1_linux-x86_64.tar.gz"], ["version 6.0.1, not 8.5.0"]),
        (["Ascend-cann-amct_8.5.0_linux-riscv.tar.gz"], ["not named"]),
        ([f"Ascend-cann-amct_8.5.0_linux-{'x86_64' if MACHINE != 'x86_64' else 'aarch64'}.tar.gz"], ["and this is"]),
        ([ARCHIVE, "amct_onnx.whl"], ["leave one archive"]),
    ],
)
def test_another_archive_than_chip_yaml_names_is_refused(tmp_path, names, words):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(VendorError) as raised:
        install_amct.find_archive(tmp_path)
    for word in words:
        assert word in f"{raised.value.message} {raised.value.hint}"


def test_archives_that_are_damaged_or_lead_out_are_refused(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(VendorError, match=r"no readable \.tar\.gz"):
        install_amct.unpack(tmp_path / ARCHIVE, tmp_path / "out")
    archive(tmp_path / ARCHIVE, {"../outside": b"x"})
    with pytest.raises(VendorError, match="leads out of it"):
        install_amct.unpack(tmp_path / ARCHIVE, tmp_path / "out")
    assert not (tmp_path / "outside").exists()
    archive(tmp_path / ARCHIVE, {"amct/readme": b"x"})
    install_amct.unpack(tmp_path / ARCHIVE, tmp_path / "out")
    with pytest.raises(VendorError, match=r"0 wheels amct_onnx-\* and 0 amct_onnx_op"):
        install_amct.parts_of(tmp_path / "out")


def sdk_folder(folder: Path) -> Path:
    (folder / "sdk").mkdir()
    operators = inner({"amct_onnx_op/setup.py": b"x"}, folder)
    wheel = f"amct/amct_onnx/amct_onnx-0.23.2-py3-none-linux_{MACHINE}.whl"
    archive(folder / "sdk" / ARCHIVE, {wheel: b"wheel", "amct/amct_onnx/amct_onnx_op.tar.gz": operators})
    return folder / "sdk"


def test_amct_is_installed_built_with_the_right_headers_and_tried(tmp_path, monkeypatch, capsys):
    sdk = sdk_folder(tmp_path)
    monkeypatch.setattr(install_amct, "version_of", lambda _name: "1.16.0")
    headers = {f"onnxruntime-linux-x64-1.16.0/include/{name}": b"h" for name in install_amct.HEADERS}
    archive(sdk / "onnxruntime-linux-x64-1.16.0.tgz", headers)
    calls = []

    def call(command, folder, doing):
        calls.append((command[1:], doing, sorted(path.name for path in (folder / "inc").glob("*"))))
        return "Install amct_onnx_op success!"

    monkeypatch.setattr(install_amct, "call", call)
    install_amct.install(sdk)
    assert [doing for _, doing, _ in calls] == ["pip", "building AMCT's operators", "importing AMCT"]
    assert "--no-deps" in calls[0][0] and calls[0][0][-1].endswith(".whl")
    assert calls[1][0] == ["setup.py", "build"] and calls[1][2] == sorted(install_amct.HEADERS)
    assert calls[2][0][0].endswith("amct_session.py")
    monkeypatch.setattr(install_amct, "call", lambda *_: "built, perhaps")
    with pytest.raises(VendorError, match="ended well without 'Install amct_onnx_op success'"):
        install_amct.install(sdk)
    (sdk / "onnxruntime-linux-x64-1.16.0.tgz").rename(sdk / "onnxruntime-linux-x64-1.20.0.tgz")
    with pytest.raises(VendorError, match=r"not of onnxruntime 1\.16\.0"):
        install_amct.install(sdk)
    (sdk / ARCHIVE).unlink()
    install_amct.install(sdk)
    assert "PRECISION=fp16 only. Huawei offers it at hiascend.com" in capsys.readouterr().out


def test_what_fails_while_it_is_installed_is_told(tmp_path):
    with pytest.raises(VendorError, match="pip failed: the reason") as raised:
        install_amct.call(["sh", "-c", "echo the reason; exit 3"], tmp_path, "pip")
    assert raised.value.hint
    assert install_amct.call(["echo", "fine"], tmp_path, "pip") == "fine\n"


def test_another_amct_than_these_calls_were_written_for_shows_its_signature():
    class Other:
        @staticmethod
        def save_model(model, record):
            pass

        @staticmethod
        def quantize_model(**anything):
            pass

    with pytest.raises(VendorError, match=r"save_model\(model, record\) does not take modified_onnx_file, record_file"):
        amct_session.check_signature(Other, "save_model")
    with pytest.raises(VendorError, match="has no create_quant_config"):
        amct_session.check_signature(Other, "create_quant_config")
    amct_session.check_signature(Other, "quantize_model")


def test_an_onnxruntime_that_amcts_table_does_not_name_is_told_of(monkeypatch):
    monkeypatch.setattr(amct_session.platform, "python_version_tuple", lambda: ("3", "11", "7"))
    monkeypatch.setattr(amct_session, "version_of", lambda _name: "1.23.2")
    assert "wants onnxruntime 1.16 with Python 3.11; this is onnxruntime 1.23.2" in amct_session.check_versions()
    monkeypatch.setattr(amct_session, "version_of", lambda _name: "1.16.0")
    assert amct_session.check_versions() is None
