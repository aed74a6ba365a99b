"""The toolkit's own account of a quantised network: <name>.model (an ONNX graph) and <name>.quantization.cfg (YAML).

Step one of its hybrid quantisation writes them; before step two, the ranges and the layers that are float16 may be
changed in the .cfg (Rockchip, RKNN-Toolkit2 API reference, hybrid_quantization_step1 and _step2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from failure import VendorError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

CONVERSION = "exDataConvert"  # the toolkit's own node between int8 and float


@dataclass
class Layer:
    """What is int8 or float16 as a whole: an operator, with the activation that the toolkit fuses into it.

    tensors: their outputs, as custom_quantize_layers names them.
    """

    name: str
    operator: str
    tensors: list[str]


@dataclass
class Configuration:
    """A .quantization.cfg with its graph."""

    content: dict[str, Any]
    graph: onnx.GraphProto

    @property
    def tensors(self) -> dict[str, dict[str, Any]]:
        """What is known of each tensor: min, max (the range that int8 covers), ori_min, ori_max (the range seen)."""
        return self.content["quantize_parameters"]

    def range_of(self, name: str) -> tuple[float, float]:
        return float(self.tensors[name]["min"][0]), float(self.tensors[name]["max"][0])

    def seen_range_of(self, name: str) -> tuple[float, float]:
        return float(self.tensors[name]["ori_min"][0]), float(self.tensors[name]["ori_max"][0])

    def has_one_range(self, name: str) -> bool:
        """Whether the tensor is quantised with one range for all its channels."""
        entry = self.tensors.get(name)
        return bool(entry) and all(len(entry[key]) == 1 for key in ("min", "max", "ori_min", "ori_max"))

    def layers(self) -> list[Layer]:
        """The layers that can be int8, in the graph's order."""
        found: list[Layer] = []
        by_tensor: dict[str, Layer] = {}
        inputs = {value.name for value in self.graph.input}
        for node in self.graph.node:
            source, output = node.input[0], node.output[0]
            if node.op_type == CONVERSION:
                # Behind the last layer the conversion has the output's own name, which is the one to ask for.
                if source in by_tensor:
                    layer = by_tensor[source]
                    layer.tensors = [output if name == source else name for name in layer.tensors]
                    layer.name = output if layer.name == source else layer.name
                continue
            names = [name for name in node.output if name in self.tensors and name not in inputs]
            if not names:
                continue
            if self._is_fused(source, output) and source in by_tensor:
                by_tensor[source].tensors += names
                by_tensor.update(dict.fromkeys(names, by_tensor[source]))
                continue
            layer = Layer(names[0], node.op_type, names)
            found.append(layer)
            by_tensor.update(dict.fromkeys(names, layer))
        return found

    def _is_fused(self, source: str, output: str) -> bool:
        """A convolution whose activation is fused has the activation's range, and not the one seen behind itself."""
        if not (self.has_one_range(source) and self.has_one_range(output)):
            return False
        return self.range_of(source) == self.range_of(output) != self.seen_range_of(source)

    def with_float16(self, layers: list[Layer]) -> dict[str, Any]:
        """The content with these layers in float16."""
        return self.content | {"custom_quantize_layers": {name: "float16" for one in layers for name in one.tensors}}


def read_configuration(folder: Path, name: str) -> Configuration:
    """Read what step one wrote. Raises VendorError when it is missing or not what it was at this toolkit's version."""
    path = folder / f"{name}.quantization.cfg"
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        graph = onnx.load(str(folder / f"{name}.model")).graph
        assert isinstance(content["quantize_parameters"], dict)
        assert all({"min", "max", "ori_min", "ori_max"} <= set(one) for one in content["quantize_parameters"].values())
    except (OSError, YAMLError, KeyError, TypeError, AssertionError, ValueError) as error:
        raise VendorError(
            f"{path} is not what RKNN-Toolkit2 2.5.0 writes ({error!r})", "install the pinned version; compile again"
        ) from None
    return Configuration(content, graph)


def write_configuration(path: Path, content: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(content, file)
