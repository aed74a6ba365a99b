"""What the double cannot show: the head of a real .hef, and the exceptions of several versions of the SDK."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_parts", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

CODE = """
import importlib.util, json, struct, sys
from pathlib import Path
from failure import VendorError
from sdk_errors import explained, recommended_end_nodes
from output_map import EndPoint, LayerOutput, assign
spec = importlib.util.spec_from_file_location("vendor_compile", "COMPILE")  # compile is a name of Python's own
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
told = {}

def hef(name, data, double=False):
    path = Path("FOLDER") / "x.hef"
    path.write_bytes(data)
    try:
        module.check_hef(path, double)
        told[name] = "taken"
    except VendorError as error:
        told[name] = error.message

body = bytes(100)
hef("good", struct.pack(">III", 0x01484546, 3, 50) + body)
hef("little endian", struct.pack("<III", 0x01484546, 3, 50) + body)
hef("truncated", struct.pack(">III", 0x01484546, 3, 500) + body)
hef("empty", b"")
hef("of a double", b"NPUMAKE DOUBLE: not an artifact" + body)
hef("not of a double", struct.pack(">III", 0x01484546, 3, 50) + body, double=True)

class ParsingWithRecommendationException(Exception):
    pass

texts = {
    "plain": "Parsing failed. The errors found in the graph are:\\n UnsupportedOperationError in op /m/Mod: no\\n"
             "Please try to parse the model again, using these end node names: /a/Conv, /b/Conv",
    "list": "use end node names: ['/a/Conv', '/b/Conv'].",
    "none": "Parsing failed: something else",
}
for name, text in texts.items():
    told[f"recommended {name}"] = recommended_end_nodes(ParsingWithRecommendationException(text))
error = ParsingWithRecommendationException("x")
error.recommended_end_node_names = ["/c/Conv"]
told["recommended attribute"] = recommended_end_nodes(error)
made = explained("translate_onnx_model", ParsingWithRecommendationException(texts["plain"]), "3.33")
told["explained"] = made.message + " | " + made.hint
made = explained("translate_onnx_model", ParsingWithRecommendationException(texts["none"]), "3.33")
told["explained without"] = made.message + " | " + made.hint

a, b = EndPoint("a", (1, 4, 8, 6), "/a/Conv", "a"), EndPoint("b", (1, 4, 8, 6), "/b/Conv", "b")
c = EndPoint("c", (1, 5, 8, 6), "/c/Conv", "c")
def matched(name, outputs, ends):
    try:
        told[name] = [end.output for end in assign(outputs, ends)]
    except VendorError as error:
        told[name] = error.message
matched("by name", [LayerOutput("conv2", ("/b/Conv",), (8, 6, 4)), LayerOutput("conv1", ("a",), (8, 6, 4))], [a, b])
matched("by shape", [LayerOutput("conv2", (), (8, 6, 5)), LayerOutput("conv1", ("out",), (8, 6, 4))], [a, c])
matched("ambiguous", [LayerOutput("conv2", (), (8, 6, 4)), LayerOutput("conv1", (), (8, 6, 4))], [a, b])
matched("other shape", [LayerOutput("conv2", ("/a/Conv",), (8, 4, 6))], [a])
matched("too many", [LayerOutput("conv2", ("/a/Conv",), (8, 6, 4))] * 2, [a])
print(json.dumps(told))
"""


def test_parts(tmp_path):
    code = CODE.replace("COMPILE", str(_conftest.VENDOR / "compile.py")).replace("FOLDER", str(tmp_path))
    told = json.loads(_conftest.in_vendor_folder(code))
    assert told["good"] == "taken"
    assert "no whole .hef" in told["little endian"] and "no whole .hef" in told["truncated"]
    assert "no whole .hef" in told["empty"] and "is a stand-in's" in told["of a double"]
    assert "is not marked" in told["not of a double"]
    assert told["recommended plain"] == told["recommended list"] == ["/a/Conv", "/b/Conv"]
    assert told["recommended none"] == [] and told["recommended attribute"] == ["/c/Conv"]
    assert told["explained"].endswith("END_NODES=/a/Conv,/b/Conv") and "UnsupportedOperationError" in told["explained"]
    assert "something else" in told["explained without"] and "END_NODES" in told["explained without"]
    assert told["by name"] == ["b", "a"] and told["by shape"] == ["c", "a"]
    assert "nothing tells which output" in told["ambiguous"] and "Hailo has conv2" in told["ambiguous"]
    assert "of shape [8, 4, 6]" in told["other shape"] and "2 outputs instead of 1" in told["too many"]
