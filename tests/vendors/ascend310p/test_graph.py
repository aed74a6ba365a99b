"""The parts that need no tool: options, AIPP, graphs without sizes, float16's range, the description of an .om."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

_spec = importlib.util.spec_from_file_location("ascend310p_conftest_graph", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

network, write_job, pixels, rung = _conftest.network, _conftest.write_job, _conftest.pixels, _conftest.rung

NAMES = ("aipp", "build_options", "free_dimensions", "job_file", "network_graph", "om_json", "rung_options", "failure",
         "preprocessing")  # fmt: skip
MODULES = _conftest.load(*NAMES)
aipp, build_options, free_dimensions, job_file, network_graph, om_json, rung_options, failure, preprocessing = MODULES
VendorError = failure.VendorError


def refused(call, *words: str) -> None:
    with pytest.raises(VendorError) as raised:
        call()
    assert raised.value.hint
    for word in words:
        assert word in f"{raised.value.message} {raised.value.hint}", raised.value.message


def job_of(folder: Path, precision: str = "fp16", options: dict | None = None, **more):
    return job_file.read_job(write_job(folder / "job", precision, options, **more))


@pytest.mark.parametrize(
    ("precision", "options", "more", "words"),
    [
        ("fp16", {"INPUT": "float"}, {}, ["INPUT=float is not u8"]),
        ("fp16", {"DYNAMIC": "both"}, {}, ["DYNAMIC=both is not image_size or batch"]),
        ("int8", {"DYNAMIC": "image_size"}, {}, ["DYNAMIC=image_size with PRECISION=int8", "one size"]),
        ("fp16", {"DYNAMIC": "image_size"}, {"sizes": []}, ["declares 1 size", "sizes: [[height, width]"]),
        ("fp16", {"DYNAMIC": "image_size"}, {"sizes": [[n, n] for n in range(8, 120)]}, ["declares 113", "2 to 100"]),
        ("fp16", {"DYNAMIC": "batch"}, {"batch": 3}, ["the batch 3 is none of 1, 2, 4, 8"]),
        ("fp16", {"AOE": "0"}, {}, ["AOE=0 is not 1"]),
        ("fp16", {"SOC": "Ascend910B"}, {}, ["SOC=Ascend910B is no ascend310p"]),
        ("fp16", {"SOC": "Ascend310B4"}, {}, ["is no ascend310p", "goals of their own"]),
        ("int8", {}, {"rung": rung(speed=1)}, ["option speed"]),
        ("int8", {}, {"rung": rung(algorithm="kl")}, ["'kl'", "ifmr or hfmg"]),
        ("int8", {}, {"rung": rung(activation_offset=1)}, ["activation_offset is 1"]),
        ("int8", {}, {"rung": rung(float_share=3)}, ["float_share is 3"]),
    ],
)
def test_options_that_cannot_be(tmp_path, precision, options, more, words):
    job = job_of(tmp_path, precision, options, graph=network(more.get("batch", 1)), **more)
    refused(lambda: (build_options.read_options(job), rung_options.read_rung(job)), *words)


def test_pixels_need_to_know_the_normalisation(tmp_path):
    job = job_of(tmp_path, options={"INPUT": "u8"}, inputs=[{"name": "image", "shape": [1, 3, 16, 12]}])
    refused(lambda: build_options.read_options(job), "INPUT=u8", "does not say")


def test_the_soc_of_each_chip_and_the_models_sizes(tmp_path):
    for chip in ("ascend310", "ascend310p", "ascend310b"):
        options = build_options.read_options(job_of(tmp_path / chip, options={"DYNAMIC": "image_size"}, chip=chip))
        assert options.soc.startswith("Ascend310") and options.sizes == ((16, 12), (12, 16), (32, 24))


def test_the_aipp_file_computes_the_networks_own_normalisation():
    given = preprocessing.Preprocessing("rgb", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    text = aipp.aipp_config(given, (16, 12))
    with _conftest.importing(_conftest.DOUBLE):
        import aipp_file

        read = aipp_file.read_aipp(text, [1, 3, 16, 12], False)
        assert aipp_file.read_aipp(aipp.aipp_config(given, None), [1, 3, -1, -1], True) == read
        for wrong in (text.replace("mean_chn_0: 123", "mean_chn_0: 123.7"), text.replace("min_chn_1", "min_chn_7"),
                      text.replace("_w: 12", "_w: 0"), text.replace("static", "dynamic"), text + "}",
                      text.replace("    csc_switch: false\n", "")):  # fmt: skip
            with pytest.raises(ValueError, match=r"."):
                aipp_file.read_aipp(wrong, [1, 3, 16, 12], False)
    image = np.arange(256, dtype=np.float64)
    for channel in range(3):
        ours = (image - read["mean_chn"][channel] - read["min_chn"][channel]) * read["var_reci_chn"][channel]
        np.testing.assert_allclose(ours, (image / 255 - given.mean[channel]) / given.std[channel], atol=1e-6)


@pytest.mark.parametrize(("more", "operator"), [("reshape", "Reshape"), ("grid", "Add"), ("sizes", "Resize"),
                                                ("slice", "Slice")])  # fmt: skip
def test_a_graph_that_holds_its_size_is_refused_with_the_node(more, operator):
    name = "up" if more == "sizes" else "holder"
    refused(
        lambda: free_dimensions.without_sizes(network(more=more)), f"node '{name}' ({operator})", "DYNAMIC=image_size"
    )


def test_a_graph_that_holds_its_batch_is_refused_with_the_node():
    refused(lambda: free_dimensions.without_batch(network(2, "batch")), "node 'holder' (Reshape)", "DYNAMIC=batch")
    free_dimensions.without_batch(network(2, "reshape"))  # 0: the batch as it comes


def test_the_freed_graph_computes_the_same_and_its_outputs_scale(tmp_path):
    job, model = job_of(tmp_path), network()
    free = free_dimensions.without_sizes(model)
    assert len(free.graph.value_info) == 0 < len(model.graph.value_info)
    names = [size.dim_param or size.dim_value for size in free.graph.input[0].type.tensor_type.shape.dim]
    assert names == [1, 3, "height0", "width0"]
    said = free_dimensions.check_sizes(job, model, free, [(16, 12), (64, 48), (12, 16)])
    assert "16x12, 12x16, 64x48" in said
    # At sizes that cannot be, and for a graph that is another one, it says so.
    broken = onnx.ModelProto()
    broken.CopyFrom(free)
    for tensor in broken.graph.initializer:
        if tensor.name == "small.b":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, "small.b"))
    refused(lambda: free_dimensions.check_sizes(job, model, broken, [(16, 12)]), "changes what output small is")
    strided = network()
    for node in strided.graph.node:
        if node.name == "stem":
            node.attribute.append(onnx.helper.make_attribute("strides", [4, 4]))
    changed = free_dimensions.without_sizes(strided)
    refused(lambda: free_dimensions.check_sizes(job, changed, changed, [(16, 12)]), "output small is of shape")
    free = free_dimensions.without_batch(model)
    assert "2 images" in free_dimensions.check_batches(job, model, free)


def test_what_float16_cannot_hold_is_found(tmp_path):
    job, model = job_of(tmp_path), network()
    said, fits = network_graph.float16_range(model, job, [{"image": pixels(1)}])
    assert fits and "65504" in said
    for tensor in model.graph.initializer:
        if tensor.name == "small.w":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e6), tensor.name))
    said, fits = network_graph.float16_range(model, job, [{"image": pixels(1)}])
    assert not fits and "in small;" in said


def test_what_the_parser_of_cann_refuses(tmp_path):
    model = network()
    model.opset_import.append(onnx.helper.make_opsetid("pkg.onnxscript", 1))
    onnx.save(model, tmp_path / "two.onnx")
    refused(lambda: network_graph.load_graph(tmp_path / "two.onnx"), "E16005", "dynamo=False")
    model = network()
    model.ir_version = 10
    onnx.save(model, tmp_path / "new.onnx")
    refused(lambda: network_graph.load_graph(tmp_path / "new.onnx"), "IR version 10")
    (tmp_path / "bad.onnx").write_bytes(b"no")
    refused(lambda: network_graph.load_graph(tmp_path / "bad.onnx"), "bad.onnx is no readable ONNX")
    refused(lambda: network_graph.load_graph(tmp_path / "none.onnx"), "none.onnx is missing")


def described(**changes) -> dict:
    def tensor(shape, dtype="DT_FLOAT"):
        return {"dtype": dtype, "shape": {"dim": [str(size) for size in shape]}}  # numbers as text: both are read

    names = changes.get("names", ["a:0:small", "b:0:large"])
    return {
        "graph": [{"name": "g", "op": [
            {"name": "image", "type": "Data", "output_desc": [tensor(changes.get("image", [1, 3, 16, 12]))]},
            {"name": "end", "type": "NetOutput",
             "input_desc": [tensor(changes.get("small", [1, 4, 16, 12]), changes.get("dtype", "DT_FLOAT")),
                            tensor([1, 5, 32, 24])][: changes.get("count", 2)]},
        ]}],
        "attr": [{"key": "attr_model_out_nodes_name", "value": {"list": {"s": names}}},
                 {"key": "soc_version", "value": {"s": changes.get("soc", "Ascend310P3")}}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"small": [1, 4, 16, 13]}, ["output small", "[1, 4, 16, 13]"]),
        ({"image": [1, 3, 12, 16]}, ["input image", "[1, 3, 12, 16]"]),
        ({"count": 1}, ["1 output(s)"]),
        ({"names": ["a:0:large", "b:0:small"]}, ["output is large"]),
        ({"soc": "Ascend310B4"}, ["Ascend310B4"]),
    ],
)
def test_an_om_that_is_not_the_jobs_is_refused(tmp_path, changes, words):
    job = job_of(tmp_path)
    (tmp_path / "om.json").write_text(json.dumps(described(**changes)))
    found = om_json.read_description(tmp_path / "om.json")
    refused(lambda: om_json.compare(found, job, build_options.read_options(job)), *words)


def test_what_is_not_where_it_was_expected_is_a_warning_that_shows_it(tmp_path):
    job = job_of(tmp_path)
    options = build_options.read_options(job)
    for content, word in (
        ({"model": {}}, "could not be read"),
        (described(small=[1, 1, 16, 12, 16]), "[1, 1, 16, 12, 16]"),  # NC1HWC0
        (described(dtype="DT_FLOAT16"), "float16"),
    ):
        (tmp_path / "om.json").write_text(json.dumps(content))
        _, warnings = om_json.compare(om_json.read_description(tmp_path / "om.json"), job, options)
        assert warnings and word in warnings[0]
    (tmp_path / "om.json").write_text(json.dumps(described(names=["a:0", "b:0"])))  # asked for by node: no ONNX name
    shown, warnings = om_json.compare(om_json.read_description(tmp_path / "om.json"), job, options)
    assert len(shown) == 3 and not warnings
    (tmp_path / "om.json").write_text("{")
    refused(lambda: om_json.read_description(tmp_path / "om.json"), "not valid JSON")
    assert om_json.output_name("Conv_770:0:maps:0") == "maps:0"
