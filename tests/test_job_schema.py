"""job.schema.json and job_file.py say the same about every job.json, and every job.json that make writes is valid."""

from __future__ import annotations

import copy
import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import onnx
import pytest
from jsonschema import Draft202012Validator

from common.basics.files import write_json
from common.declarations.spec import chip_names, load_chip, load_model, model_names
from common.job import Cell, job_description, rung_entry
from tests.conftest import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "vendors").glob("*/chip.yaml"))
KEYWORDS = {"$schema", "$id", "$ref", "$defs", "title", "description", "default", "type", "const", "enum", "pattern",
            "required", "properties", "additionalProperties", "dependentRequired", "items", "minItems", "maxItems",
            "minimum", "maximum", "exclusiveMinimum", "minLength"}  # fmt: skip
# What a schema for all chips cannot say, and the scripts do.
DELIBERATE = (
    r"is for chip '",
    r"precision '.*' is none of",
    r"options: .* is none of",
    r"an input is not of shape \[",
    r"are of three channels, the input has",
    r"(inputs|outputs) names one tensor twice",
)
WRONG = (None, True, False, 0, 1, 2, -1, 2.0, 2.5, 1e9, 1e999, "", "x", "a b", "../x", "/x", "x/../y", "a\nb", [], {},
         [1], ["x"], [0, 0], [1, 2, 3], [1, 2, 3, 4], [[1, 2]], [[0, 2]], {"x": 1}, {"x": "y"},
         {"name": "x"})  # fmt: skip


@cache
def validator():
    return Draft202012Validator(json.loads((FOLDERS[0] / "job.schema.json").read_text()))


@contextmanager
def modules_of(folder, *names) -> Iterator[list]:
    """Modules of a vendor folder; other folders have some of the same names."""
    own = {path.stem for path in folder.glob("*.py")}
    before = {name: sys.modules.pop(name) for name in own & set(sys.modules)}
    sys.path.insert(0, str(folder))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in own & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def vendor(request, tmp_path):
    """(refusal, folder): refusal(job) is the message and hint with which the scripts refuse a job.json, or None."""
    with modules_of(request.param, "job_file", "failure") as (job_file, failure):

        def refusal(job):
            (tmp_path / "job.json").write_text(job if isinstance(job, str) else json.dumps(job))
            try:
                job_file.read_job(tmp_path)
            except failure.VendorError as error:
                return error.message.replace(str(tmp_path), "JOB"), error.hint
            return None

        yield refusal, request.param


def example_of(folder):
    return json.loads((folder / "job.example.json").read_text())


def complete(folder):
    """The example with every other key of the schema set to something that is right."""
    return example_of(folder) | {
        "$schema": "job.schema.json", "batch": 1, "outputs_file": "out.npz", "artifact": "pose-net_1.0", "sizes": [],
        "rung": {"number": 1, "name": "a", "options": {"x": 1}}, "options": {}, "double": True, "labels": ["nose"],
        "keep_float": [{"node": "n", "operator": "Conv", "outputs": ["n"]}], "decode": {"kind": "heatmap"},
        "calibration": "calib", "model": "pose", "variant": "v", "vendor": folder.name,
    }  # fmt: skip


def places(value, path=()):
    """Where something stands in a job.json: the keys and indices that lead there."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield from places(entry, (*path, key))


def at(job, path):
    for key in path:
        job = job[key]
    return job


def mutations(job):
    """(what was done, the job.json that it gives): each thing removed, replaced by each wrong value, and each object
    with a key more."""
    for path in places(job):
        removed = copy.deepcopy(job)
        del at(removed, path[:-1])[path[-1]]
        yield ("without", path), removed
        for value in WRONG:
            replaced = copy.deepcopy(job)
            at(replaced, path[:-1])[path[-1]] = value
            yield (path, value), replaced
    for path in [(), *places(job)]:
        if isinstance(at(job, path), dict):
            more = copy.deepcopy(job)
            at(more, path)["colour"] = "rgb"
            yield ("more in", path), more
    twice = copy.deepcopy(job)
    twice["outputs"] *= 2
    yield "an output twice", twice


def test_the_schema_is_one_uses_only_what_job_schema_py_understands_and_describes_every_key():
    schema = validator().schema
    Draft202012Validator.check_schema(schema)

    def look(rule):
        assert set(rule) <= KEYWORDS, set(rule) - KEYWORDS
        for key, inner in rule.get("properties", {}).items():
            assert len(inner["description"]) > 10, key
            look(inner)
        for key in ("items", "additionalProperties"):
            if isinstance(rule.get(key), dict):
                look(rule[key])
        if "properties" in rule:
            assert rule["additionalProperties"] is False
            assert set(rule.get("required", [])) <= set(rule["properties"])

    look(schema)
    for rule in schema["$defs"].values():
        look(rule)
    assert set(complete(FOLDERS[0])) == set(schema["properties"])


@pytest.mark.parametrize("vendor", FOLDERS[:1], indirect=True, ids=lambda folder: folder.name)
def test_schema_and_scripts_agree_on_every_small_change_of_the_example(vendor):
    """On one folder: schema and scripts are the same files in all (tests/test_structure.py)."""
    refusal, folder = vendor
    met = set()
    for job in (complete(folder),):
        assert validator().is_valid(job)
        assert refusal(job) is None
        for done, changed in mutations(job):
            said = refusal(changed)
            # 1e999 is read as infinity, and json.dumps writes that as what is no JSON: refused before the schema.
            valid = "Infinity" not in json.dumps(changed) and validator().is_valid(changed)
            if not valid:
                assert said is not None, done
                assert "job.json" in said[0] and said[1], done
            elif said is not None:
                found = [words for words in DELIBERATE if re.search(words, said[0])]
                assert found, (done, said)
                met |= set(found)
    # None of the differences is a leftover.
    assert met == set(DELIBERATE)


def test_without_its_optional_keys_a_job_is_what_the_schema_says_by_default(vendor):
    _, folder = vendor
    with modules_of(folder, "job_schema") as (job_schema,):
        properties = validator().schema["properties"]
        given = example_of(folder)
        filled = job_schema.checked(given, folder / "job.json")
    for key, rule in properties.items():
        assert filled.get(key, "nothing") == given.get(key, rule.get("default", "nothing")), key


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"presision": "int8"}, "JOB/job.json: unknown key presision; did you mean precision?", "job.schema.json"),
        ({"zzz": 1}, "JOB/job.json: unknown key zzz; known: $schema, version, chip, precision", "job.example.json"),
        ({"version": 2}, "JOB/job.json: version 2 is newer than version 1", "take the vendor folder of the npumake"),
        ({"version": 0, "zzz": 1}, "JOB/job.json: version 0 is older than version 1", "job.schema.json"),
        ({"version": "1"}, "JOB/job.json: version '1' is no whole number", "job.schema.json"),
        ({"version": True}, "JOB/job.json: version True is no whole number", "job.schema.json"),
        ({"inputs": "image"}, "JOB/job.json: inputs 'image' is not a list in [ ]", "job.schema.json"),
        ({"graph": "../x.onnx"}, "JOB/job.json: graph '../x.onnx' is not a path inside the job folder", "job.schema"),
        ({"artifact": "a/b"}, "JOB/job.json: artifact 'a/b' is not a plain file name", "job.schema.json"),
        ({"labels": ["x"] * 99 + [3]}, "JOB/job.json: labels[99] 3 is not a text", "job.schema.json"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_a_way_out(vendor, change, message, hint):
    refusal, folder = vendor
    said = refusal(example_of(folder) | change)
    assert said is not None
    assert said[0].startswith(message), said
    assert hint in said[1]
    assert len(said[0]) < 600


def test_keys_below_the_first_level_are_named_with_their_place(vendor):
    refusal, folder = vendor
    job = example_of(folder)
    job["inputs"][0] = {"name": "image", "shape": [1, 3, 8, 8], "means": [0, 0, 0]}
    assert refusal(job)[0] == "JOB/job.json: unknown key inputs[0].means; did you mean mean?"
    job["inputs"][0] = {"name": "image", "shape": [1, 3, 8, 8], "mean": [0, 0, 0]}
    assert refusal(job)[0] == "JOB/job.json: inputs[0].color is missing, which belongs to mean"
    job["inputs"][0] |= {"color": "rgb", "scale": 0, "std": [1, 1, 1]}
    assert refusal(job)[0] == "JOB/job.json: inputs[0].scale 0 is not more than 0"


@pytest.mark.parametrize("text", ['{"version": NaN}', '{"version": 1,}', "[" * 100000, "\xff", ""])
def test_what_is_no_json_is_refused(vendor, text):
    refusal, _ = vendor
    message, hint = refusal(text)
    assert "job.json is not valid JSON" in message
    assert "job.schema.json" in hint


def test_an_option_that_is_a_file_stays_inside_the_job_folder(vendor):
    _, folder = vendor
    with modules_of(folder, "job_file", "failure") as (job_file, failure):
        fields = dict.fromkeys(job_file.Job.__dataclass_fields__)
        job = job_file.Job(**fields | {"folder": folder, "options": {"FILE": "../../secret", "OTHER": "options/x"}})
        assert job.option_path("OTHER") == folder / "options/x"
        assert job.option_path("NONE") is None
        with pytest.raises(failure.VendorError, match="not a path inside the job folder"):
            job.option_path("FILE")


def cell_of(folder, model, chip, precision, **asked):
    """A cell's request files, as far as job.json is made of them; the chip's graph is one convolution."""
    spec = load_model(model)
    cell = folder / "out" / spec.name / chip / precision
    source = {"version": 1, "model": spec.name, "spec": spec.model_dump(mode="json"), "source": {"origin": "random"}}
    write_json(folder / "out" / spec.name / "float" / "source.json", source)
    write_json(cell / "request.json", {"model": spec.name, "chip": chip, "variant": precision, "precision": precision})
    write_json(cell / "climb.json", {"gate": None, "rung": None, "keep_float": "", "options": {}} | asked)
    if precision in load_chip(chip).calibrated:
        write_json(cell / "calibration_set.json", {"folder": "calib", "count": 1, "force": False})
    tensors = {"inputs": [{"name": "image", "shape": spec.input.shape}], "outputs": [{"name": "y", "shape": [1, 2]}]}
    write_json(cell / "fix.json", tensors)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["y"], "end")], "g", *[
        [onnx.helper.make_tensor_value_info(name, 1, spec.input.shape)] for name in ("image", "y")])  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), cell / "model.onnx")
    return Cell(cell)


def test_every_job_that_make_writes_is_valid_and_taken(vendor, tmp_path):
    """For every chip of the folder, precision, rung, value of an option; and kept nodes where the chip has that."""
    refusal, folder = vendor
    written = 0
    for chip in [name for name in chip_names() if load_chip(name).folder.name == folder.name]:
        spec = load_chip(chip)
        values = {name: (rule.values or ["some text"]) for name, rule in spec.option_rules.items()}
        asked = [{}, *({"options": {name: value}} for name, listed in values.items() for value in listed)]
        asked += [{"keep_float": "end"}] if spec.float_layers else []
        for precision in spec.precisions:
            for wanted in asked:
                job = job_description(cell_of(tmp_path, "hrnet_tiny", chip, precision, **wanted))
                rungs = [rung_entry(number, rung) for number, rung in enumerate(spec.rungs.get(precision, []), 1)]
                for rung in [None, *rungs]:
                    validator().validate(job | {"rung": rung})
                    assert refusal(job | {"rung": rung}) is None
                    written += 1
    assert written >= 2


@pytest.mark.parametrize("model", sorted(model_names()))
def test_every_models_declaration_fits_into_a_job(model, tmp_path):
    chip = next(iter(chip_names()))
    job = job_description(cell_of(tmp_path, model, chip, load_chip(chip).precisions[0]))
    validator().validate(job)
