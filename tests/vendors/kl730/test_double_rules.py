"""Each rule of the double of the toolchain, broken once: it refuses. All else about the call is right."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest

from tests.vendors.kl730.jobs import SHAPE, network

WIDTHS = dict.fromkeys(
    ["datapath_bitwidth_mode", "weight_bitwidth_mode", "model_in_bitwidth_mode", "model_out_bitwidth_mode",
     "cpu_node_bitwidth_mode"], "int8"
)  # fmt: skip


@pytest.fixture
def ktc(doubles):
    import ktc

    return ktc


@pytest.fixture
def optimised(doubles):
    import kneronnxopt

    return kneronnxopt.optimize(network())


def feeds(count=2, shape=(1, *SHAPE), dtype=np.float32):
    generator = np.random.default_rng(3)
    return [generator.standard_normal(shape).astype(dtype) for _ in range(count)]


def analyse(ktc, model, folder, platform="730", mapping=None, **changes):
    given = {
        "output_dir": str(folder), "threads": 1, "datapath_range_method": "percentage", "percentage": 1.0,
        "percentage_16b": 1.0, **WIDTHS, "const_in_bitwidth_mode": "int8", "mode": 1, **changes,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value != "left out"}
    config = ktc.ModelConfig(32769, "0001", platform, onnx_model=model)
    return config.analysis({"image": feeds()} if mapping is None else mapping, **given)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda model: model.opset_import[0].__setattr__("version", 19), "opset"),
        (lambda model: model.__setattr__("ir_version", 10), "IR version: 10"),
        (lambda model: model.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_param", "n"), "dynamic"),
        (lambda model: model.graph.initializer[2].__setattr__("data_location", 1), "External data"),
    ],
)
def test_graphs_that_the_optimiser_refuses(ktc, change, error):
    import kneronnxopt

    model = network()
    change(model)
    for optimise in (kneronnxopt.optimize, ktc.onnx_optimizer.onnx2onnx_flow):
        with pytest.raises(ValueError, match=error):
            optimise(copy.deepcopy(model))


def test_arguments_that_the_optimisers_refuse(ktc):
    import kneronnxopt

    for wrong in ({"duplicate_shared_weights": 3}, {"skip_check": 1}, {"eliminate_tail": True}):
        with pytest.raises((TypeError, ValueError)):
            kneronnxopt.optimize(network(), **wrong)
    for wrong in ({"opt_matmul": 1}, {"eliminate_tail": True}, {"disable_fuse_bn": False}):
        with pytest.raises(TypeError):
            ktc.onnx_optimizer.onnx2onnx_flow(network(), **wrong)
    with pytest.raises(TypeError):
        kneronnxopt.optimize("model.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"id": 11111}, {"id": "32769"}, {"version": "1"}, {"version": 1}, {"platform": "830"}, {"platform": 730},
        {"bie_path": "/tmp/model.bie"}, {"onnx_model": None}, {"debug": True},
        {"bie_path": "/tmp/m.nef", "onnx_model": None},
        {"platform": "720", "input_fmt": "1W16C8B"}, {"radix": 7},
    ],
)  # fmt: skip
def test_a_configuration_that_is_refused(ktc, optimised, change):
    given = {"id": 32769, "version": "0001", "platform": "730", "onnx_model": optimised} | change
    with pytest.raises((TypeError, ValueError)):
        ktc.ModelConfig(**given)


def test_a_graph_has_to_be_optimised_first(ktc, tmp_path):
    with pytest.raises(ValueError, match="optimiser first"):
        ktc.ModelConfig(32769, "0001", "730", onnx_model=network())
    onnx.save(network(), tmp_path / "plain.onnx")
    with pytest.raises(ValueError, match="optimiser first"):
        ktc.kneron_inference(feeds(1), ["image"], onnx_file=str(tmp_path / "plain.onnx"), platform=730)


def test_what_the_evaluator_refuses(ktc, optimised, tmp_path):
    config = ktc.ModelConfig(32769, "0001", "730", onnx_model=optimised)
    good = {"output_dir": str(tmp_path), **WIDTHS}
    assert "kdp730/ip_eval/fps: " in config.evaluate(**good)
    for wrong in (
        {"output_dir": "relative"}, {"output_dir": str(tmp_path / "none")}, {"datapath_bitwidth_mode": "mixbw"},
        {"weight_bitwidth_mode": "8"}, {"model_in_bitwidth_mode": "mix light"}, {"compiler_tiling": "deep"},
        {"fm_cut": "x"}, {"cpu_node_bitwidth_mode": None},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            config.evaluate(**(good | wrong))


@pytest.mark.parametrize(
    "change",
    [
        {"output_dir": "relative"}, {"threads": 0}, {"threads": 2.0}, {"quantize_mode": "sigmoid"},
        {"mode": "left out"}, {"mode": 4}, {"optimize": 5}, {"percentage": 0.9},
        {"percentage_16b": 0.999, "percentage": 1.0},
        {"percentile": 0.001}, {"outlier_factor": 2.0}, {"datapath_range_method": "minmax"},
        {"datapath_range_method": "mmse"}, {"datapath_bitwidth_mode": "left out"}, {"weight_bitwidth_mode": "left out"},
        {"model_in_bitwidth_mode": "left out"}, {"model_out_bitwidth_mode": "left out"},
        {"cpu_node_bitwidth_mode": "left out"}, {"datapath_bitwidth_mode": "int4"},
        {"const_in_bitwidth_mode": "mix light"},
        {"platform": "520", "model_out_bitwidth_mode": "int16"}, {"platform": "720", "weight_bitwidth_mode": "int4"},
        {"platform": "720", "quan_config": {}}, {"compiler_tiling": "partial_graph_search"}, {"bitwidth_mode": "8"},
        {"fm_cut": "deep_search"}, {"output_bie": "x"}, {"outlier": 1},
    ],
)  # fmt: skip
def test_what_the_analysis_refuses(ktc, optimised, tmp_path, change):
    with pytest.raises((TypeError, ValueError)):
        analyse(ktc, optimised, tmp_path, **change)
    assert not list(tmp_path.glob("*.bie"))


@pytest.mark.parametrize(
    "mapping",
    [
        {}, {"input": feeds()}, {"image": []}, {"image": feeds()[0]}, {"image": feeds(shape=SHAPE)},
        {"image": feeds(dtype=np.float64)}, {"image": feeds(shape=(1, 16, 12, 3))},
    ],
)  # fmt: skip
def test_calibration_that_the_analysis_refuses(ktc, optimised, tmp_path, mapping):
    with pytest.raises(ValueError):
        analyse(ktc, optimised, tmp_path, mapping=mapping)


def test_what_the_compiler_refuses(ktc, optimised, tmp_path):
    config = ktc.ModelConfig(32769, "0001", "730", onnx_model=optimised)
    with pytest.raises(ValueError, match="before fix-point analysis"):
        ktc.compile([config], output_dir=str(tmp_path))
    bie = analyse(ktc, optimised, tmp_path)
    ready = ktc.ModelConfig(32769, "0001", "730", bie_path=bie)
    assert ktc.compile([ready], output_dir=str(tmp_path)).endswith("models_730.nef")
    for wrong in ({"output_dir": "."}, {"compiler_tiling": "x"}, {"hardware_cut_opt": True}, {"weight_compress": 1}):
        with pytest.raises((TypeError, ValueError)):
            ktc.compile([ready], **({"output_dir": str(tmp_path)} | wrong))
    with pytest.raises(TypeError):
        ktc.compile(ready, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="for 730"):
        ktc.ModelConfig(32769, "0001", "720", bie_path=bie)


def test_what_the_simulator_refuses(ktc, optimised, tmp_path):
    bie = analyse(ktc, optimised, tmp_path)
    odd = tmp_path / "odd name.bie"
    odd.write_bytes((tmp_path / bie).read_bytes())
    (tmp_path / "foreign.bie").write_bytes(b"of somebody else")
    good = {"pre_results": feeds(1), "input_names": ["image"], "bie_file": bie, "platform": 730}
    names = ["small", "large"]
    ordered = ktc.kneron_inference(**good, reordering=names)
    assert [array.shape[1] for array in ordered] == [4, 5]
    assert [array.shape[1] for array in ktc.kneron_inference(**good)] == [5, 4]  # not the network's order
    for wrong in (
        {"platform": 520}, {"platform": "730"}, {"input_names": ["input"]}, {"input_names": "image"},
        {"data_type": "int"},
        {"pre_results": feeds(1)[0]}, {"pre_results": feeds(1, dtype=np.float64)}, {"pre_results": feeds(1, SHAPE)},
        {"pre_results": feeds(2)}, {"onnx_file": bie}, {"bie_file": "none.bie"}, {"bie_file": str(odd)}, {"radix": 7},
        {"bie_file": str(tmp_path / "foreign.bie")}, {"reordering": ["small"]}, {"reordering": [0, 1]},
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            ktc.kneron_inference(**(good | wrong))


def test_an_operator_that_the_npu_lacks_is_on_the_cpu(ktc, tmp_path):
    from ktc.operators import on_cpu

    assert on_cpu("Floor", "730") and on_cpu("ConvTranspose", "520") and not on_cpu("ConvTranspose", "720")
    model = ktc.onnx_optimizer.onnx2onnx_flow(network(extra="Floor"))
    text = ktc.ModelConfig(32769, "0001", "730", onnx_model=model).evaluate(output_dir=str(tmp_path), **WIDTHS)
    assert "kdp730/cpu_node: odd_one" in text and ", odd_one, odd_one, CPU," in text
