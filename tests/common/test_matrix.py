"""The cells of ci/'s lists, and which of them a change touches."""

import json

import pytest

from common import matrix as module
from common.basics.errors import UserError
from common.cells.changed_paths import Touched, read_paths, touched_by
from common.declarations.spec import chip_names, load_chip, load_model, model_names
from common.matrix import families, legs_of, main, matrix
from tests.conftest import ROOT

CLOSED = [name for name in chip_names() if not load_chip(name).local]
LICENSED = [name for name in chip_names() if set(load_chip(name).sdk.files) == set(load_chip(name).precisions)]
PARTLY = [name for name in chip_names() if load_chip(name).sdk.files and name not in LICENSED]
MODELS = {path.parent.name for path in model_names().values()}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with the real models/, vendors/ and lists; the lists may be changed."""
    for folder in ("models", "vendors"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "ci").mkdir()
    for path in (ROOT / "ci").glob("*.yaml"):
        (tmp_path / "ci" / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SDK_URLS", raising=False)
    return tmp_path


def asked(name="quick", models="", chips="", changed="", shards=None, notes=""):
    return matrix(name, models, chips, changed, shards, notes)["include"]


def written(project, text, name="own"):
    (project / "ci" / f"{name}.yaml").write_text(f"title: own\ncells:\n{text}")
    return name


# --- The lists --------------------------------------------------------------------------------------------------------
def test_quick_has_a_chip_of_every_vendor_folder_and_only_the_small_network():
    legs = asked()
    assert {leg["vendor"] for leg in legs} == {path.parent.name for path in chip_names().values()}
    assert {leg["model"] for leg in legs} == {"hrnet_tiny"} and all(leg["limit"] for leg in legs)
    assert all((leg["sdk"] == "double") == (leg["chip"] in CLOSED) == bool(leg["double"]) for leg in legs)


def test_full_has_every_network_on_every_chip_in_all_its_precisions_and_fits_into_a_matrix():
    legs = asked("full")
    assert {(leg["model"], leg["chip"]) for leg in legs} == {(model, chip) for model in MODELS for chip in chip_names()}
    assert len(legs) <= 256 and not any(leg["double"] for leg in legs)
    for leg in legs:
        without = load_chip(leg["chip"]).sdk.files if leg["skipped"] else {}
        assert leg["precision"].split() == [name for name in load_chip(leg["chip"]).precisions if name not in without]


def test_entries_are_sorted_and_the_same_every_time(capsys):
    assert asked("full") == asked("full")
    names = [(leg["model"], leg["chip"]) for leg in asked("full")]
    assert names == sorted(names) and len({leg["name"] for leg in asked("full")}) == len(names)


def test_a_leg_names_all_that_a_workflow_needs_as_words_of_make():
    for leg in asked("full"):
        assert {type(value) for key, value in leg.items() if key != "minutes"} == {str}
        assert leg["vendor"] == load_chip(leg["chip"]).folder.name
        assert leg["python"].split()[-1] == "3.11"


def test_a_leg_has_the_python_that_its_vendor_folder_wants(project):
    for leg in asked():
        wanted = project / "vendors" / leg["vendor"] / ".python-version"
        assert not wanted.exists() or set(wanted.read_text().split()) & set(leg["python"].split())


def test_weights_are_the_published_ones_where_they_can_be_had():
    for leg in asked("full", chips=families()[0]):
        declared = load_model(leg["model"]).weights
        here = (ROOT / "models" / leg["model"] / "weights" / declared.file).is_file()
        can = declared.url or declared.export
        assert (leg["weights"], leg["download"]) == (("", "") if here else ("", "1") if can else ("random", ""))


def test_one_list_may_name_a_chip_twice_and_its_precisions_join(project):
    chip = families()[0]
    precisions = load_chip(chip).precisions
    text = "".join(
        f"  - {{models: [hrnet_tiny], chips: [{chip}], precisions: [{name}]}}\n" for name in precisions[::-1]
    )
    (leg,) = asked(written(project, text))
    assert (leg["precision"] + leg["skipped"]).startswith(precisions[0])


# --- Licensed SDKs ----------------------------------------------------------------------------------------------------
def test_a_licensed_sdk_without_its_secret_is_skipped_with_the_reason(capsys):
    legs = asked("full", models="hrnet_tiny", chips=" ".join(LICENSED))
    assert legs and all(leg["precision"] == "" and leg["sdk"] == "file" for leg in legs)
    assert all("no SDK" in leg["skipped"] and "SDK_URLS" in leg["skipped"] for leg in legs)
    assert "skipped: hrnet_tiny on" in capsys.readouterr().err


def test_what_needs_no_licence_is_built_all_the_same():
    for leg in asked("full", models="hrnet_tiny", chips=" ".join(PARTLY)):
        files = load_chip(leg["chip"]).sdk.files
        assert leg["precision"] and leg["sdk"] == "image" and not set(leg["precision"].split()) & set(files)


def test_with_its_secret_it_is_built(monkeypatch):
    folder = load_chip(LICENSED[0]).folder.name
    monkeypatch.setenv("SDK_URLS", f"\n{folder}=https://example.org/private/file.whl\n")
    for leg in asked("full", models="hrnet_tiny", chips=LICENSED[0]):
        assert leg["precision"].split() == load_chip(LICENSED[0]).precisions and leg["sdk"] == "file"
        assert leg["skipped"] == ""
    other = asked("full", models="hrnet_tiny", chips=PARTLY[0])
    assert all(leg["skipped"] for leg in other)


@pytest.mark.parametrize(
    ("secret", "told"),
    [("not an address", "line 1 is not of this form"), ("x=https://h/f.whl", "line 1 names no vendor folder")],
)
def test_a_secret_that_cannot_be_read_is_told_without_being_shown(monkeypatch, secret, told):
    monkeypatch.setenv("SDK_URLS", secret)
    with pytest.raises(UserError, match=told) as error:
        asked("full")
    assert secret not in error.value.message + str(error.value.hint)


# --- What changed -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changed", "vendors", "models"),
    [
        ("docs/a.md README.md vendors/ncnn/README.md LICENSE docs/demo.png tests/test_make.py", set(), set()),
        ("vendors/ncnn/compile.py", {"ncnn"}, set()),
        ("vendors/ncnn/compile.py vendors/kl730/chip.yaml docs/x.md", {"ncnn", "kl730"}, set()),
        ("tests/doubles/kl730/ktc/__init__.py", {"kl730"}, set()),
        ("models/hrnet_tiny/model.yaml", set(), {"hrnet_tiny"}),
        ("models/hrnet_tiny/weights/hrnet_tiny.pth vendors/ncnn/infer.py", {"ncnn"}, {"hrnet_tiny"}),
    ],
)
def test_a_folder_touches_its_own(changed, vendors, models):
    assert touched_by(changed.split()) == Touched(False, frozenset(models), frozenset(vendors))


@pytest.mark.parametrize(
    "path",
    ["common/fix.py", "models/arch/hrnet.py", "models/__init__.py", "Makefile", "requirements.txt", "constraints.txt",
     "calib/renderer/scene.py", "ci/quick.yaml", ".github/workflows/ci.yml", "tests/doubles/fake_quantisation.py",
     "vendors/gone/compile.py", "models/gone/model.yaml", "a new file", '"vendors/ncnn/\\303\\244.py"'],
)  # fmt: skip
def test_what_all_cells_share_and_what_is_unknown_touches_all(path):
    assert touched_by(["docs/x.md", path]).everything


def test_a_change_of_one_chip_runs_only_its_legs():
    assert {leg["vendor"] for leg in asked(changed="vendors/ncnn/compile.py")} == {"ncnn"}
    assert {leg["chip"] for leg in asked("full", changed="vendors/rk3588/job_file.py")} == set(
        load_chip("rk3588").chips
    )
    assert {leg["model"] for leg in asked("full", changed="models/yolov8n/model.yaml")} == {"yolov8n"}
    assert asked(changed="common/fix.py") == asked()


def test_an_empty_list_is_one_line_of_json(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["matrix", "--list", "quick", "--changed", "docs/x.md", "--models", ""])
    main()
    said = capsys.readouterr()
    assert said.out == '{"include":[]}\n' and "is touched" in said.err


def test_changed_paths_come_from_a_file_too(project):
    (project / "changed.txt").write_text("vendors/ncnn/compile.py\nmodels/a name.txt\n")
    assert read_paths("@changed.txt") == ["vendors/ncnn/compile.py", "models/a name.txt"]
    with pytest.raises(UserError, match=r"CHANGED=@nowhere: .*cannot be read") as error:
        asked(changed="@nowhere")
    assert error.value.exit_code == 2


def test_what_is_left_out_is_appended_to_the_notes(project):
    (project / "notes.md").write_text("before\n")
    asked(changed="models/yolov8n/model.yaml", notes="notes.md")
    lines = (project / "notes.md").read_text().splitlines()
    assert lines == [
        "before",
        "- not built: yolov8n is not in the list `quick`",
        "- no cell of the list `quick` is touched",
    ]


# --- Shards and limits ------------------------------------------------------------------------------------------------
def test_shards_multiply_the_legs():
    legs = asked("full", models="hrnet_tiny", chips="ncnn", shards=12)
    assert [leg["shard"] for leg in legs] == [f"{number}/12" for number in range(1, 13)]
    assert [leg["part"] for leg in legs][::11] == ["01", "12"]


def test_more_legs_than_a_matrix_holds_are_refused(monkeypatch):
    with pytest.raises(UserError, match="257 legs") as error:
        asked("full", models="hrnet_tiny", chips="ncnn", shards=257)
    assert error.value.exit_code == 2 and error.value.hint == "SHARDS=256 at most, for so many cells"
    monkeypatch.setattr(module, "MOST_LEGS", 5)
    with pytest.raises(UserError, match="and a matrix holds 5 at most") as error:
        asked()
    assert "name fewer" in error.value.hint


# --- Mistakes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        ({"name": "quik"}, "unknown LIST 'quik'; known: full, quick", "did you mean quick?"),
        ({"models": "hrnet_tinny"}, "MODELS=: unknown MODEL 'hrnet_tinny'", "did you mean hrnet_tiny?"),
        ({"chips": "nccn"}, "CHIPS=: unknown chip 'nccn'", "did you mean ncnn?"),
    ],
)
def test_an_unknown_name_gets_the_nearest(words, told, hint):
    with pytest.raises(UserError) as error:
        asked(**words)
    assert error.value.message.startswith(told) and error.value.hint == hint and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  - {models: [hrnet_tinny], chips: all}\n", "ci/own.yaml: unknown MODEL 'hrnet_tinny'"),
        ("  - {models: all, chips: [nccn]}\n", "ci/own.yaml: unknown chip 'nccn'"),
        ("  - {models: all, chips: all, precisions: [int9]}\n", "ci/own.yaml: unknown precision 'int9'"),
        ("  - {models: all, chip: [ncnn]}\n", "ci/own.yaml: cells.0.chip"),
        ("  - {models: [], chips: all}\n", "ci/own.yaml: cells.0.models"),
        ("  []\n", "ci/own.yaml: cells: "),
        ("  - {\n", "is not valid YAML"),
    ],
)
def test_a_list_with_a_mistake_is_refused_with_its_place(project, text, told):
    with pytest.raises(UserError) as error:
        legs_of(written(project, text))
    assert told in error.value.message and error.value.hint


def test_an_alias_stands_for_its_network():
    (leg,) = asked("full", models="hrnet_w32", chips="ncnn")
    assert leg["model"] == "hrnet_w32_256x192" and json.dumps(leg)
