"""`make eval` in a project where the demo was built: the whole way from make's variables to the files."""

import json
import os
import signal
import subprocess
import time

import pytest

CHIP = "ncnn"
VARIANT = "int8"
EVALUATE = ("eval", "MODEL=hrnet_tiny")


def result(project, *parts):
    return json.loads(project.path("out", "hrnet_tiny", *parts, "metrics.json").read_text())


def test_the_float_network_gives_the_numbers_of_the_build(demo_copy):
    said = demo_copy.make(*EVALUATE, "CHIP=float")
    assert said.returncode == 0, said.stderr
    found = result(demo_copy, "float", "eval", "people_evaluation-gt")
    built = result(demo_copy, CHIP, VARIANT)["float"]
    # The build's predictions go through JSON and other batches; the AP is the same.
    assert found["numbers"]["AP"] == pytest.approx(built["AP"], abs=1e-9) and found["interval"] == built["interval"]
    assert "AP50" in said.stdout and "ground-truth boxes" in said.stdout
    assert "out/hrnet_tiny/float/eval/people_evaluation-gt/metrics.json" in said.stdout


def test_shards_of_a_chip_merge(demo_copy):
    words = (*EVALUATE, f"CHIP={CHIP}", f"VARIANT={VARIANT}", "LIMIT=12", "FLIP=1")
    whole = demo_copy.make(*words)
    assert whole.returncode == 0, whole.stderr
    place = demo_copy.path("out", "hrnet_tiny", CHIP, VARIANT, "eval", "people_evaluation-gt-flip-first12")
    expected = (place / "metrics.json").read_text(), (place / "results.json").read_text()
    for path in (*place.glob("chunk-*"), place / "metrics.json"):
        path.unlink()
    for shard in ("2/2", "1/2"):
        said = demo_copy.make(*words, f"SHARD={shard}")
        assert said.returncode == 0, said.stderr
    assert ((place / "metrics.json").read_text(), (place / "results.json").read_text()) == expected


def test_interrupted_by_the_terminal(demo_copy):
    """Ctrl-C reaches make and the step: one clean message, nothing half-written, and the next run ends it."""
    command = ["make", *EVALUATE, "CHIP=float"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    process = subprocess.Popen(
        command, cwd=demo_copy.folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    place = demo_copy.path("out", "hrnet_tiny", "float", "eval", "people_evaluation-gt")
    deadline = time.monotonic() + 60
    while not (place / "request.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)  # the request stands; the first piece begins a little later
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and "Traceback" not in said
    assert "interrupted; nothing half-written is kept" in said and "pieces are kept" in said
    assert not list(place.glob(".partial*")) and not (place / "metrics.json").exists()
    assert demo_copy.make(*EVALUATE, "CHIP=float").returncode == 0
    assert (place / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval"], ["MODEL= is not set"]),
        (["eval", "MODEL=hrnet_tiny"], ["CHIP= is not set", "HINT: CHIP= is one of: float"]),
        (["eval", "MODEL=hrnet_tiny", "CHIP=float"], ["has not been built", f"make {CHIP} MODEL=hrnet_tiny"]),
        (
            ["eval", "MODEL=hrnet_w32", f"CHIP={CHIP}", "VARIANT=int8"],
            ["hrnet_w32_256x192/ncnn/int8 has not been built", f"make {CHIP} MODEL=hrnet_w32 PRECISION=int8"],
        ),
        (["eval", "MODEL=hrnet_tiny", f"CHIP={CHIP}", "VARIANT=int3"], ["does not build precision 'int3'"]),
        (["eval", "MODEL=hrnet_tiny", "CHIP=float", "SHARD=4/3"], ["SHARD=4/3", "HINT: SHARD=1/4"]),
        (["eval", "MODEL=hrnet_tiny", "CHIP=float", "LIMIT=none"], ["LIMIT=none"]),
        (
            ["eval", "MODEL=hrnet_tiny", "CHIP=float", "BOXES=all"],
            ["BOXES=all is unknown", "HINT: BOXES=gt or detections"],
        ),
    ],
)
def test_a_wrong_call_gets_one_message_and_one_hint(project, words, expected):
    said = project.make(*words, "EVAL=models")
    assert said.returncode == 2
    for text in expected:
        assert text in said.stderr
    assert said.stderr.count("ERROR:") == 1 and said.stderr.count("HINT:") == 1 and "Traceback" not in said.stderr
