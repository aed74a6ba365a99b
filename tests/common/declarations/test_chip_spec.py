"""chip.yaml: what one chip of a family lacks, and what is refused."""

import pytest
from pydantic import ValidationError

from common.declarations.chip_spec import ChipSpec

FAMILY = {
    "chips": ["small", "large"], "title": "two", "artifact": ".bin", "precisions": ["fp32", "fp16", "int8"],
    "calibrated": ["int8"], "lacks": ["small:fp16"], "engines": ["local"],
    "sdk": {"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
    "simulator": "none", "proven": "no",
    "graph": {"opset": [11, 17], "ir_version": 7}, "operators": {"Conv": {}, "Erf": {}},
    "unsupported": {"Loop": "unroll it"}, "unsupported_on": {"small": {"Erf": "use Relu"}}, "folder": "vendors/family",
    "rungs": {"int8": [{"name": "one", "title": "first"}, {"name": "two", "title": "second", "options": {"more": 1}}]},
}  # fmt: skip


def test_a_chip_of_a_family_is_without_what_it_lacks():
    family = ChipSpec.model_validate(FAMILY)
    small, large = family.of("small"), family.of("large")
    assert (small.precisions, large.precisions) == (["fp32", "int8"], ["fp32", "fp16", "int8"])
    assert (list(small.operators), list(large.operators)) == (["Conv"], ["Conv", "Erf"])
    assert (small.unsupported["Erf"], small.unsupported["Loop"]) == ("use Relu", "unroll it")
    assert "Erf" not in large.unsupported
    assert small.float_precision == "fp32"
    assert [rung.options for rung in small.rungs["int8"]] == [{}, {"more": 1}]


def test_a_float_mode_is_the_first_precision_that_needs_no_calibration():
    narrow = FAMILY | {"precisions": ["fp16", "int8"], "lacks": []}
    assert ChipSpec.model_validate(narrow).float_precision == "fp16"
    quantised = FAMILY | {"precisions": ["int8"], "lacks": []}
    assert ChipSpec.model_validate(quantised).float_precision is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibrated": ["int4"]}, "calibrated names int4, which is no precision"),
        ({"lacks": ["small:int4"]}, "'small:int4' is no chip:precision"),
        ({"lacks": ["tiny:fp16"]}, "'tiny:fp16' is no chip:precision"),
        ({"rungs": {"int4": [{"name": "a", "title": ""}]}}, "rungs names int4"),
        ({"rungs": {"int8": []}}, "rungs of int8 are empty"),
        ({"rungs": {"int8": [{"name": "a", "title": ""}] * 2}}, "two have one name"),
        ({"rungs": {"int8": [{"name": "a", "title": "", "option": 1}]}}, "option"),
        ({"unsupported_on": {"tiny": {"Erf": "no"}}}, "unsupported_on names tiny"),
        ({"batches": []}, "batches"),
        ({"batches": [0]}, "batches"),
    ],
)
def test_a_contradiction_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ChipSpec.model_validate(FAMILY | changes)
