"""Files appear whole or not at all."""

import math
import os

import pytest

from common.basics.errors import UserError
from common.basics.files import read_json, replacing, replacing_folder, sha256_file, write_json, write_json_if_changed


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_keeps_the_suffix_and_gives_ordinary_permissions(tmp_path):
    umask = os.umask(0o022)
    try:
        with replacing(tmp_path / "a" / "x.npz") as temporary:
            assert temporary.suffix == ".npz"
            temporary.write_bytes(b"1")
    finally:
        os.umask(umask)
    assert (tmp_path / "a" / "x.npz").stat().st_mode & 0o777 == 0o644


def test_replacing_folder_keeps_the_old_folder_on_failure_and_drops_it_on_success(tmp_path):
    folder = tmp_path / "calib"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as temporary:
        (temporary / "new").touch()
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"]
    with replacing_folder(folder) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["calib"]


def test_json_is_written_only_when_it_changes(tmp_path):
    path = tmp_path / "request.json"
    assert write_json_if_changed(path, {"a": 1})
    os.utime(path, ns=(1, 1))
    assert not write_json_if_changed(path, {"a": 1})
    assert path.stat().st_mtime_ns == 1
    assert write_json_if_changed(path, {"a": 2})
    assert path.stat().st_mtime_ns != 1
    assert read_json(path) == {"a": 2}


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"AP": math.nan})
    assert not list(tmp_path.iterdir())


def test_damaged_and_missing_json_are_named(tmp_path):
    path = tmp_path / "compile.json"
    with pytest.raises(UserError, match=r"compile\.json is missing"):
        read_json(path)
    path.write_text('{"half": ')
    with pytest.raises(UserError, match=r"compile\.json is not valid JSON"):
        read_json(path)


def test_sha256_of_known_bytes(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
