import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from common.basics.errors import UserError
from common.declarations.spec import WeightsSpec, model_from_dict
from common.weights import fetch_weights
from tests.common.odd_graphs import spec_content

CONTENT = np.random.default_rng(0).bytes(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; the server's `ranges`, `cut_after`, `length` and `status` say how well it does so."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        start = 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if server.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if server.cut_after is None else start + server.cut_after
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.cut_after, server.length, server.status, server.asked = True, None, True, 200, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models/odd/weights"


def spec(server, **changed):
    url = f"http://127.0.0.1:{server.server_address[1]}/w.pth"
    weights = {"file": "w.pth", "url": url, "sha256": SHA256[:8], "licence": "Apache-2.0"} | changed
    return model_from_dict(spec_content() | {"weights": weights}, "test")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_downloads_verifies_and_names_the_licence(server, folder, capsys):
    path = fetch_weights(spec(server))
    assert path.read_bytes() == CONTENT and names(folder) == ["w.pth"]
    said = capsys.readouterr().out
    assert "licence Apache-2.0" in said and "0.7 MB" in said and "http://127.0.0.1" in said
    fetch_weights(spec(server))
    assert len(server.asked) == 1, "a file that is there is not fetched again"


def test_a_cut_connection_is_resumed(server, folder, capsys):
    server.cut_after = 300_000
    with pytest.raises(UserError, match=r"cut|cannot be downloaded") as caught:
        fetch_weights(spec(server))
    assert caught.value.hint and names(folder) == ["w.pth.partial"]
    server.cut_after = None
    assert fetch_weights(spec(server)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]
    assert "0.3 MB of it here already" in capsys.readouterr().out


def test_a_server_that_ignores_range_starts_anew(server, folder):
    folder.mkdir(parents=True)
    (folder / "w.pth.partial").write_bytes(b"x" * 1000)
    server.ranges = False
    assert fetch_weights(spec(server)).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_length(server, folder):
    server.length = False
    assert fetch_weights(spec(server)).read_bytes() == CONTENT


def test_a_complete_partial_file_needs_no_more_bytes(server, folder):
    folder.mkdir(parents=True)
    (folder / "w.pth.partial").write_bytes(CONTENT)
    assert fetch_weights(spec(server)).read_bytes() == CONTENT


def test_a_wrong_hash_is_an_error_and_the_file_is_set_aside(server, folder):
    with pytest.raises(UserError, match=f"SHA-256 is {SHA256}, not 00000000"):
        fetch_weights(spec(server, sha256="00000000"))
    assert names(folder) == ["w.pth.wrong"]


def test_a_foreign_partial_file_is_found_out(server, folder):
    folder.mkdir(parents=True)
    (folder / "w.pth.partial").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="SHA-256"):
        fetch_weights(spec(server))
    assert fetch_weights(spec(server)).read_bytes() == CONTENT, "the next attempt starts anew"


def test_a_damaged_file_that_is_there_is_found_out(server, folder):
    folder.mkdir(parents=True)
    (folder / "w.pth").write_bytes(b"x")
    with pytest.raises(UserError, match="SHA-256"):
        fetch_weights(spec(server))
    assert fetch_weights(spec(server)).read_bytes() == CONTENT


def test_the_servers_refusal_is_told(server, folder):
    server.status = 404
    with pytest.raises(UserError, match="answers 404") as caught:
        fetch_weights(spec(server))
    assert "models/odd/weights/w.pth" in caught.value.hint and "http://127.0.0.1" in caught.value.hint


def test_without_a_network_the_hint_names_url_and_place(server, folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: a connection is refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pth"
        with pytest.raises(UserError, match="cannot be downloaded") as caught:
            fetch_weights(spec(server, url=url))
    assert url in caught.value.hint and "models/odd/weights/w.pth" in caught.value.hint


def test_no_url_or_no_weights(server, folder):
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch_weights(spec(server, url=None))
    with pytest.raises(UserError, match="declares no weights"):
        fetch_weights(model_from_dict(spec_content(), "test"))


def test_the_whole_hash_is_compared():
    assert WeightsSpec(file="w", sha256=SHA256, licence="x").sha256 == SHA256
