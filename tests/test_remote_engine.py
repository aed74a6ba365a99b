"""An engine that is reached by the network, as another machine's is: nothing can be mounted, the job travels."""

from __future__ import annotations

import json
import shutil
import socket
import threading

import pytest

from tests.test_images import local_base

SOCKET = "/var/run/docker.sock"


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction until its end, and pass that end on."""
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has gone


def serve(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(SOCKET)
        for pair in ((client, engine), (engine, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


@pytest.fixture
def far_engine():
    """tcp://... of this machine's engine: by that name, npumake must not count on a folder of ours being there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def test_the_artifact_of_a_far_engine_is_the_local_one(demo_copy, far_engine, monkeypatch):
    base = local_base("ncnn")
    cell = demo_copy.path("out/hrnet_tiny/ncnn/fp32")
    local = json.loads((cell / "compile.json").read_text())
    shutil.rmtree(cell)
    monkeypatch.setenv("DOCKER_HOST", far_engine)
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32", "ENGINE=docker", f"BASE={base}")
    assert result.returncode == 0, result.stdout + result.stderr
    record = json.loads((cell / "compile.json").read_text())
    assert record["sha256"] == local["sha256"]
    assert record["engine"].startswith("docker npumake-ncnn:")
    assert json.loads((cell / "proof.json").read_text())["state"] == "proven"


def test_a_far_engine_that_is_not_there_is_said(demo_copy, monkeypatch):
    local_base("ncnn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    result = demo_copy.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=fp32", "ENGINE=docker")
    assert result.returncode != 0
    assert "ERROR: docker does not answer" in result.stderr and "HINT: " in result.stderr
    assert "Traceback" not in result.stderr
