"""What make says and refuses, before anything is built."""

import re

import pytest

from common.declarations.spec import chip_names, load_chip, model_names

CHIP = "ncnn"


def test_help_names_every_chip_and_model_and_stays_on_a_screen(project):
    text = project.make("help").stdout
    for name in chip_names():
        assert re.search(rf"\b{name}\b", text)
    for path in set(model_names().values()):
        assert path.parent.name in text
    assert len(text.splitlines()) <= 48


def test_make_alone_is_help(project):
    assert project.make().stdout == project.make("help").stdout


def test_list_shows_models_chips_and_sets(project):
    text = project.make("list").stdout
    for word in ("hrnet_w32_256x192", "hrnet_tiny", CHIP, "calib/people_evaluation", "fp32, int8"):
        assert word in text


def test_explain_derives_the_flags_from_the_one_declaration(project):
    text = project.make("explain", "MODEL=hrnet_w32", f"CHIP={CHIP}").stdout
    # 0.485 * 255 and 1 / (0.229 * 255), by hand
    assert "123.675" in text
    assert "0.0171248" in text
    assert "calib/manifest.json" in text


def test_explain_lists_the_variables_that_only_this_chip_has(project):
    chip = next(name for name in chip_names() if load_chip(name).variant_options)
    text = project.make("explain", "MODEL=hrnet_tiny", f"CHIP={chip}").stdout
    for option, rule in load_chip(chip).option_rules.items():
        assert re.search(rf"^  {option}=.*{re.escape(rule.title)}", text, re.MULTILINE)
    assert "in a folder of its own" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nccn", "MODEL=hrnet_tiny"], ["unknown chip or goal 'nccn'", "did you mean ncnn?"]),
        ([CHIP, "MODEL=hrnet_tinny"], ["unknown MODEL 'hrnet_tinny'", "hrnet_w32_256x192", "did you mean hrnet_tiny?"]),
        ([CHIP], ["MODEL=", "hrnet_tiny"]),
        ([CHIP, "MODEL=hrnet_tiny", "PRECISION=int3"], ["does not build precision 'int3'", "PRECISION=int8"]),
        ([CHIP, "ONNX=a.onnx"], ["HINT: add SPEC=file.yaml"]),
        ([CHIP, "ONNX=a.onnx", "SPEC=nowhere.yaml"], ["nowhere.yaml does not exist"]),
        (
            [CHIP, "MODEL=hrnet_w48"],
            ["weights of hrnet_w48_384x288 are missing", "make weights MODEL=hrnet_w48_384x288"],
        ),
        ([CHIP, "MODEL=hrnet_w32", "WEIGHTS=no.pth"], ["WEIGHTS=no.pth does not exist"]),
        ([CHIP, "MODEL=hrnet_tiny", "CALIB=nowhere"], ["CALIB=nowhere is not a folder"]),
        (["job", "MODEL=hrnet_tiny"], ["which chip? CHIP= is not set"]),
        (["job", f"CHIP={CHIP}"], ["which network?"]),
        (["job", "CHIP=nccn", "MODEL=hrnet_tiny"], ["nccn", "did you mean ncnn?"]),
        ([CHIP, "MODEL=hrnet_tiny", "DOUBLE=1"], ["has no stand-in for its SDK"]),
        (["explain", "MODEL=hrnet_tiny"], ["explain needs a model and a chip"]),
        (["weights", "MODEL=hrnet_w33"], ["unknown MODEL 'hrnet_w33'", "did you mean hrnet_w32?"]),
    ],
)
def test_a_wrong_call_gets_one_message_one_hint_and_exit_2(project, words, expected):
    result = project.make(*words, "EVAL=models")
    assert result.returncode == 2
    for text in expected:
        assert text in result.stderr
    assert result.stderr.count("ERROR:") == 1
    assert result.stderr.count("HINT:") == 1
    assert "Traceback" not in result.stderr
    assert not project.path("out").exists()


def test_a_dry_run_shows_the_stages_and_builds_nothing(project):
    result = project.make("-n", CHIP, "MODEL=hrnet_tiny", "PRECISION=int8")
    assert result.returncode == 0
    for stage in ("export", "fix", "preflight", "calibrate", "climb", "draw", "proof"):
        assert f"-m common {stage} " in result.stdout
    assert not project.path("out").exists()


def test_fp32_is_not_calibrated(project):
    assert "common calibrate" not in project.make("-n", CHIP, "MODEL=hrnet_tiny", "PRECISION=fp32").stdout
