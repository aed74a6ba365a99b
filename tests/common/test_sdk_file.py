"""Licensed files from an address that is a secret: whole, the right one, and never a word about the address."""

import hashlib
import http.server
import threading

import pytest

from common.basics.errors import UserError
from common.declarations.spec import chip_names, load_chip
from common.sdk_file import fetch_sdk, licensed_folders, main
from tests.conftest import ROOT

CHIP = next(name for name in chip_names() if load_chip(name).sdk.files)
FOLDER = load_chip(CHIP).folder.name
PATTERN = next(iter(load_chip(CHIP).sdk.files.values()))
NAME = PATTERN.removeprefix("sdk/").replace("*", "x")
CONTENT = b"licensed" * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A folder with the chip's declaration, and a server with the file: http://.../secret."""
    place = tmp_path / "vendors" / FOLDER
    (place / "sdk").mkdir(parents=True)
    for name in ("chip.yaml", "operators.yaml"):
        if (path := ROOT / "vendors" / FOLDER / name).exists():
            (place / name).write_bytes(path.read_bytes())
    (tmp_path / "store" / "secret").mkdir(parents=True)
    (tmp_path / "store" / "secret" / NAME).write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *words: Quiet(*words, directory=str(tmp_path / "store"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret"
    server.shutdown()


def test_the_file_comes_whole_and_once(address, monkeypatch, capsys):
    monkeypatch.setenv("SDK_URLS", f"{FOLDER}={address}/{NAME}#sha256={HASH}\n")
    assert licensed_folders() == {FOLDER}
    (path,) = fetch_sdk(CHIP)
    assert path.read_bytes() == CONTENT and [one.name for one in path.parent.iterdir()] == [NAME]
    changed = path.stat().st_mtime_ns
    fetch_sdk(CHIP)
    assert path.stat().st_mtime_ns == changed
    said = capsys.readouterr()
    assert "secret" not in said.out + said.err and NAME in said.out


def test_another_content_is_refused_and_not_kept(address, monkeypatch):
    monkeypatch.setenv("SDK_URLS", f"{FOLDER}={address}/{NAME}#sha256={'0' * 64}")
    with pytest.raises(UserError, match="its SHA-256 is not the one"):
        fetch_sdk(CHIP)
    assert not list((load_chip(CHIP).folder / "sdk").iterdir())


def test_a_server_that_has_it_not_is_told_by_the_files_name_alone(address, monkeypatch):
    monkeypatch.setenv("SDK_URLS", f"{FOLDER}={address}/gone/{NAME}")
    with pytest.raises(UserError, match="404") as error:
        fetch_sdk(CHIP)
    assert "secret" not in error.value.message + error.value.hint and NAME in error.value.message


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("", "SDK_URLS names no file for"),
        ("{folder}=https://h/secret/other.txt", "SDK_URLS names no sdk/"),
        ("{folder}=https://h/secret/", "line 1 is not of this form"),
        ("{folder}=https://h/secret/a.whl#sha256=12", "line 1 is not of this form"),
        ("{folder}=file:///secret/a.whl", "line 1 is not of this form"),
        ("\nnowhere=https://h/secret/a.whl", "line 2 names no vendor folder"),
    ],
)
def test_a_secret_that_does_not_do_gets_one_message(address, monkeypatch, secret, told):
    monkeypatch.setenv("SDK_URLS", secret.format(folder=FOLDER))
    with pytest.raises(UserError, match=told) as error:
        fetch_sdk(CHIP)
    assert error.value.hint and "secret/" not in error.value.message + error.value.hint


def test_without_a_chip_there_is_a_hint(monkeypatch):
    monkeypatch.setattr("sys.argv", ["sdk_file", "--chip", ""])
    with pytest.raises(UserError, match="which chip") as error:
        main()
    assert error.value.exit_code == 2
