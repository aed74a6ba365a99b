"""The commands of docs/adding_a_model.md and docs/adding_a_chip.md, run as they stand there."""

import re
import shlex

import onnx
import pytest
import yaml

from tests.common.test_inspect_onnx import network
from tests.conftest import ROOT

FILLED = {
    "color": "rgb", "scale": "255", "mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]",
    "keypoints": "coco17", "padding": "1.25", "licence": "my own",
}  # fmt: skip


def commands(name):
    """The words of each `make` line of a document's code blocks, without make itself."""
    lines = re.findall(r"^    make (.*)$", (ROOT / "docs" / name).read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture
def with_sets(demo_copy):
    """A copy whose image sets are rendered, and a network that somebody brings."""
    onnx.save(network((17, 4)), demo_copy.path("mynet.onnx"))
    return demo_copy


def fill(path):
    """What the owner of the network knows, in the place of each FILL_IN."""
    text = path.read_text()
    for key, value in FILLED.items():
        text = re.sub(rf"^( *{key}): FILL_IN$", rf"\1: {value}", text, flags=re.MULTILINE)
    path.write_text(text)


def test_a_model_from_an_onnx_file_is_refused_until_it_is_filled_in_and_then_built(with_sets):
    project, declaration = with_sets, with_sets.path("models/mynet/model.yaml")
    for words in commands("adding_a_model.md"):
        result = project.make(*words)
        assert result.returncode == 0, (words, result.stdout, result.stderr)
    asked = ["job", "CHIP=ncnn", "MODEL=mynet", "PRECISION=fp32", "LIMIT=2"]
    refused = project.make(*asked)
    assert refused.returncode != 0
    assert refused.stderr.count("ERROR:") == 1
    number = 1 + next(i for i, line in enumerate(declaration.read_text().splitlines()) if line == "  color: FILL_IN")
    assert f"models/mynet/model.yaml:{number}: input.color" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not project.path("out/mynet").exists()
    listed = project.make("list")
    assert f"7 places to fill in: {declaration.relative_to(project.folder)}" in listed.stdout
    fill(declaration)
    assert "FILL_IN" not in yaml.safe_dump(yaml.safe_load(declaration.read_text()))
    built = project.make(*asked)
    assert built.returncode == 0, built.stdout + built.stderr
    assert project.path("out/mynet/ncnn/fp32/job.json").exists()
    assert "mynet " in project.make("list").stdout


def test_a_new_chip_is_listed_and_stops_where_something_is_to_be_written(with_sets):
    project = with_sets
    made, listed, job = commands("adding_a_chip.md")
    assert project.make(*made).returncode == 0
    assert "still to be written" in next(line for line in project.make(*listed).stdout.splitlines() if "kx900" in line)
    refused = project.make(*job)
    assert refused.returncode != 0
    assert "vendors/kx900/chip.yaml lists no operators yet" in refused.stderr
    assert "Traceback" not in refused.stderr
