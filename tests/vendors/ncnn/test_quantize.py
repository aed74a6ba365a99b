"""The int8 writer against files that ncnn2int8 made, and against damaged input."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("ncnn_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script = _conftest.run_script

from failure import VendorError  # noqa: E402
from param_file import parse_float, read_param  # noqa: E402
from quantize import load_network, quantize_network, write_network  # noqa: E402
from rounding import to_int8  # noqa: E402
from scale_table import ScaleTable, parse_table, read_table, table_text  # noqa: E402
from weight_file import to_float16  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix(".table") for path in GOLDEN.glob("*.table"))


def golden(name: str) -> tuple[Path, Path, Path]:
    return GOLDEN / f"{name}.float.param", GOLDEN / f"{name}.float.bin", GOLDEN / f"{name}.table"


@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_ncnn2int8(name, tmp_path):
    param, weights, table = golden(name)
    network = load_network(param, weights)
    before = {layer.name: dict(layer.weights) for layer in network.layers}
    write_network(quantize_network(network, read_table(table)), tmp_path / "o.param", tmp_path / "o.bin")
    assert (tmp_path / "o.param").read_bytes() == (GOLDEN / f"{name}.int8.param").read_bytes()
    assert (tmp_path / "o.bin").read_bytes() == (GOLDEN / f"{name}.int8.bin").read_bytes()
    for layer in network.layers:  # the float network is not changed
        assert all(layer.weights[key] is value for key, value in before[layer.name].items())


def test_all_golden_networks_are_there():
    assert len(NAMES) == 7


def test_command_line(tmp_path):
    done = run_script("quantize.py", *golden("residual"), tmp_path / "o.param", tmp_path / "o.bin")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.bin").read_bytes() == (GOLDEN / "residual.int8.bin").read_bytes()


def damaged(name: str, tmp_path: Path, change_param=None, change_bin=None, change_table=None) -> list[Path]:
    paths = []
    for source, change in zip(golden(name), (change_param, change_bin, change_table), strict=True):
        data = source.read_bytes()
        paths.append(tmp_path / source.name)
        paths[-1].write_bytes(change(data) if change else data)
    return paths


WRONG = {
    "cut bin": ({"change_bin": lambda d: d[:-4]}, "ends inside"),
    "long bin": ({"change_bin": lambda d: d + b"\0\0\0\0"}, "bytes more"),
    "magic": ({"change_param": lambda d: d.replace(b"7767517", b"7767518", 1)}, "7767518"),
    "layer missing": ({"change_param": lambda d: d[: d.rstrip().rfind(b"\n") + 1]}, "announces"),
    "unknown layer": ({"change_param": lambda d: d.replace(b"BinaryOp", b"Strange1", 1)}, "Strange1"),
    "unknown name in table": ({"change_table": lambda d: b"nobody 3.0 \n" + d}, "nobody"),
    "no weight scales": (
        {"change_table": lambda d: b"".join(x for x in d.splitlines(True) if b"_param_" not in x)},
        "no weight scales",
    ),
    "too few scales": (
        {"change_table": lambda d: b"\n".join([b"convrelu_0_param_0 1.0", *d.split(b"\n")[1:]])},
        "needs",
    ),
    "nan scale": ({"change_table": lambda d: d.replace(d.split()[1], b"nan", 1)}, "finite"),
    "infinite scale": ({"change_table": lambda d: d.replace(d.split()[1], b"inf", 1)}, "finite"),
    "negative scale": ({"change_table": lambda d: d.replace(d.split()[1], b"-3.0", 1)}, "above 0"),
    "no number": ({"change_table": lambda d: d.replace(d.split()[1], b"many", 1)}, "many"),
    "line twice": ({"change_table": lambda d: d.splitlines(True)[0] + d}, "twice"),
    "nan weight": ({"change_bin": lambda d: d[:4] + np.float32(np.nan).tobytes() + d[8:]}, "NaN"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_refused_and_nothing_is_written(what, tmp_path):
    changes, words = WRONG[what]
    paths = damaged("residual", tmp_path, **changes)
    output = tmp_path / "made"
    with pytest.raises(VendorError, match=words):
        network = load_network(*paths[:2])
        write_network(quantize_network(network, read_table(paths[2])), output / "o.param", output / "o.bin")
    assert not output.exists()


def test_message_hint_and_exit_code(tmp_path):
    paths = damaged("residual", tmp_path, change_bin=lambda data: data[: len(data) // 2])
    done = run_script("quantize.py", *paths, tmp_path / "o.param", tmp_path / "o.bin")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: ") and "\nHINT: " in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o.param").exists() and not (tmp_path / "o.bin").exists()


def test_an_int8_model_is_not_quantised_again():
    with pytest.raises(VendorError, match="int8 already"):
        load_network(GOLDEN / "residual.int8.param", GOLDEN / "residual.int8.bin")


def test_a_layer_whose_parameters_the_tool_drops(tmp_path):
    (tmp_path / "a.param").write_text("7767517\n2 2\nInput in0 0 1 in0\nTile tile_0 1 1 in0 out0 0=1 1=2\n")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(VendorError, match="tile_0"):
        load_network(tmp_path / "a.param", tmp_path / "a.bin")
    network = load_network(tmp_path / "a.param", tmp_path / "a.bin", keep_unwritten=True)
    write_network(network, tmp_path / "b.param", tmp_path / "b.bin", keep_unwritten=True)
    assert read_param(tmp_path / "b.param").layers[1].parameters == {0: 1, 1: 2}


@pytest.mark.parametrize("name", NAMES)
def test_written_graph_reads_back(name):
    written, read = read_param(GOLDEN / f"{name}.int8.param"), read_param(GOLDEN / f"{name}.float.param")
    assert [(x.type, x.name, x.bottoms, x.tops) for x in written.layers] == [
        (x.type, x.name, x.bottoms, x.tops) for x in read.layers
    ]


def test_halves_round_away_from_zero_and_clip():
    values = np.array([[0.5, -0.5, 1.5, -2.5, 126.5, 127.5, -300.0, 0.4999]], np.float32)
    assert to_int8(values, np.ones(1, np.float32)).tolist() == [[1, -1, 2, -3, 127, 127, -127, 0]]


def test_float16_of_whole_groups_and_of_the_rest():
    # 2049 lies between two float16 values: to even in a group of four, away from zero in the rest.
    # 1e-6 is subnormal in float16: kept in a group of four, zero in the rest.
    whole = to_float16(np.array([2049, -2049, 1e-6, 1.0], np.float32)).view(np.float16)
    assert whole[:2].tolist() == [2048, -2048] and whole[2] > 0
    rest = to_float16(np.array([2049, -2049, 1e-6], np.float32)).view(np.float16)
    assert rest.tolist() == [2050, -2050, 0]


def test_decimal_numbers_as_ncnn_reads_them():
    assert parse_float("-1.5e2") == -150.0 and parse_float("6.") == 6.0 and parse_float("1e-3") == np.float32(1e-3)
    assert parse_float("1e999") == np.finfo(np.float32).max
    for text in ("", ".", "1.2.3", "e5", "0x10", "nan"):
        with pytest.raises(ValueError, match=r".*"):
            parse_float(text)


def test_table_text_and_back():
    table = ScaleTable({"a": np.array([1.25, 3.5], np.float32)}, {"a": np.float32(7.125)})
    assert table_text(table) == "a_param_0 1.250000 3.500000 \na 7.125000 \n"
    again = parse_table(table_text(table), "t")
    assert again.weights["a"].tolist() == [1.25, 3.5] and again.activations == {"a": 7.125}
