import sys

import numpy as np
import pytest

from common import make_static as module
from common.basics.errors import UserError
from common.graphs.onnx_graph import check_static, graph_inputs, graph_outputs, load_onnx, run_onnx
from common.make_static import make_static
from tests.common.odd_graphs import INPUT_SHAPE, images, odd_model, odd_outputs, save


def open_model(indices=(0, 2, 3)):
    model = odd_model()
    for value in (model.graph.input[0], model.graph.output[0]):
        for index in indices:
            value.type.tensor_type.shape.dim[index].dim_param = f"d{index}"
    return model


def test_open_sizes_are_set_on_input_and_output():
    static = make_static(open_model(), INPUT_SHAPE)
    check_static(static, "it")
    assert graph_inputs(static)[0].shape == (1, 3, 32, 24)
    assert graph_outputs(static)[0].shape == (1, 17, 16, 12)
    x = images(2)
    assert np.allclose(run_onnx(static, {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


def test_a_fixed_size_that_disagrees_is_refused():
    with pytest.raises(UserError, match=r"d0x3xd2x24.*1x3x32x40"):
        make_static(open_model((0, 2)), [1, 3, 32, 40])


def test_the_command(tmp_path, monkeypatch, capsys):
    source = save(open_model((0,)), tmp_path / "open.onnx")
    monkeypatch.setattr(sys, "argv", ["make_static", str(source), str(tmp_path / "fixed.onnx"), "1x3x32x24"])
    module.main()
    check_static(load_onnx(tmp_path / "fixed.onnx"), "it")
    assert "1x3x32x24" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["make_static", str(source), str(tmp_path / "fixed.onnx"), "big"])
    with pytest.raises(UserError, match="'big' is not a shape"):
        module.main()
