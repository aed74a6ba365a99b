"""`make explain`: what follows from the one declaration, when a build turns red, and the chain of files."""

import sys

import pytest

from common import explain
from common.basics.errors import UserError
from common.declarations.spec import chip_names, load_chip, load_model, model_names
from common.explain import derived_flags, derived_values, variants_of
from tests.conftest import ROOT


@pytest.fixture
def page(tmp_path, monkeypatch, capsys):
    """page(*words): what explain prints, in a folder with the real models and vendors and nothing built."""
    for name in ("models", "vendors", "Makefile", "common"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["explain", *words])
        explain.main()
        return capsys.readouterr().out

    return run


def test_the_values_of_flags_are_the_declarations_by_hand():
    values = derived_values(load_model("hrnet_w32").input)
    assert values["mean_pixels"] == "123.675,116.28,103.53"  # 0.485 * 255 ...
    assert values["std_pixels"] == "58.395,57.12,57.375"
    assert values["inverse_std_pixels"].startswith("0.0171248")  # 1 / 58.395
    assert (values["height"], values["width"], values["COLOR"]) == ("256", "192", "RGB")


def test_a_flag_of_an_unknown_value_is_the_chips_error():
    chip = load_chip(next(iter(chip_names()))).model_copy(update={"flags": {"--x": "{meen}"}})
    with pytest.raises(UserError, match="'meen', which is none of"):
        derived_flags(load_model("hrnet_tiny"), chip)


@pytest.mark.parametrize("chip", sorted(chip_names()))
def test_every_chip_is_explained_for_every_task(page, chip):
    tasks = {load_model(name).task: name for name in model_names()}
    for model in tasks.values():
        text = page("--model", model, "--chip", chip)
        declared = load_chip(chip)
        for flag, value in derived_flags(load_model(model), declared).items():
            assert f"{flag:34} {value}" in text
        for precision in declared.precisions:
            gate = load_model(model).gate_for(precision)
            line = next(line for line in text.splitlines() if line.startswith(f"  {precision} "))
            assert f" {gate.oks:g} against float, or above a loss of {gate.ap_drop:g} AP" in line
            for number, rung in enumerate(declared.rungs.get(precision, []), 1):
                assert f"RUNG={number}" in text
                assert f"{rung.name}: {rung.title}" in text
            assert f"/{chip}/{precision}/" in text
        assert "1. decode the photograph" in text
        assert "  made " not in text


def test_a_calibration_is_in_the_chain_of_what_is_calibrated_alone(page):
    text = page("--model", "hrnet_tiny", "--chip", "ncnn")
    fp32, int8 = text.partition("ncnn/fp32/")[2].split("ncnn/int8/")
    assert "calib/manifest.json" in int8
    assert "calib/manifest.json" not in fp32


def test_variants_that_somebody_asked_for_are_shown_too(tmp_path):
    chip = load_chip("ncnn")
    for name in ("int8", "int8-b4", "no-request"):
        (tmp_path / name).mkdir()
    for name in ("int8", "int8-b4"):
        (tmp_path / name / "request.json").write_text("{}")
    assert variants_of(chip, tmp_path) == ["fp32", "int8", "int8-b4"]


def test_a_declaration_of_ones_own_is_named(page, tmp_path):
    text = (ROOT / "models/hrnet_tiny/model.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("name: hrnet_tiny", "name: mine"))
    text = page("--spec", "mine.yaml", "--chip", "ncnn")
    assert "Declared once, in mine.yaml" in text
    assert "out/mine/ncnn/int8/" in text


@pytest.mark.parametrize("words", [[], ["--model", "hrnet_tiny"], ["--chip", "ncnn"]])
def test_a_wrong_call_is_one_message_and_exit_2(page, words):
    with pytest.raises(UserError, match="needs a model and a chip") as error:
        page(*words)
    assert error.value.exit_code == 2
