"""What an .om holds, from the JSON that `atc --mode=1` writes of it, against what job.json says that it should hold.

The JSON is the Graph Engine's ModelDef (ge_ir.proto in its public source): graph[].op[], each with name, type,
input_desc and output_desc; a desc has dtype (DT_FLOAT) and shape.dim; attr[] of the model has atc_cmdline, soc_version
and attr_model_out_nodes_name. Nobody here has seen one of a real .om: what cannot be found is a warning that shows what
there was, and only what was found and is wrong is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atomic_files import read_json
from build_options import BuildOptions
from failure import VendorError
from job_file import Job

TYPES = {"DT_FLOAT": "float32", "DT_FLOAT16": "float16", "DT_UINT8": "uint8", "DT_INT8": "int8"}
GEARS = "ascend_mbatch_shape_data"  # the input through which the runtime is told which of several shapes is meant


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its type ("float32"), its shape ([] where the JSON has none)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Description:
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    soc: str = ""
    command: str = ""


def read_description(path: Path) -> Description:
    """What the JSON says, as far as it is where it was expected. Raises VendorError when it is no JSON."""
    content = read_json(path, "compile again; atc's messages stand in atc.log")
    if not isinstance(content, dict):
        return Description()
    attributes = _attributes(content)
    names = (attributes.get("attr_model_out_nodes_name", {}).get("list") or {}).get("s") or []
    graphs = [graph for graph in content.get("graph") or [] if isinstance(graph, dict)]
    inner = {name for graph in graphs for node in graph.get("op") or [] for name in node.get("subgraph_name") or []}
    nodes = [node for graph in graphs if graph.get("name") not in inner for node in graph.get("op") or []]
    inputs = [
        _port(node.get("name", ""), (node.get("output_desc") or node.get("input_desc") or [{}])[0])
        for node in nodes
        if node.get("type") == "Data" and GEARS not in node.get("name", "")
    ]
    ends = [node for node in nodes if node.get("type") == "NetOutput"]
    descriptions = (ends[0].get("input_desc") or []) if ends else []
    outputs = []
    for index, entry in enumerate(descriptions):
        outputs.append(_port(output_name(str(names[index])) if index < len(names) else "", entry))
    text = {key: str(value.get("s", "")) for key, value in attributes.items()}
    return Description(inputs, outputs, text.get("soc_version", ""), text.get("atc_cmdline", ""))


def output_name(text: str) -> str:
    """The ONNX name in "node:index:name", as an .om names its outputs (acl.mdl.get_output_name_by_index); "" where only
    the node is named, as it is for outputs that were asked for by their node."""
    return text.split(":", 2)[2] if text.count(":") >= 2 else ""


def _attributes(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    entries = [entry for entry in content.get("attr") or [] if isinstance(entry, dict)]
    return {str(entry.get("key")): entry["value"] for entry in entries if isinstance(entry.get("value"), dict)}


def _port(name: str, entry: dict[str, Any]) -> Port:
    dimensions = (entry.get("shape") or {}).get("dim") or []
    return Port(
        str(name),
        TYPES.get(entry.get("dtype", ""), str(entry.get("dtype", "?"))),
        tuple(int(size) for size in dimensions),
    )


def compare(found: Description, job: Job, options: BuildOptions) -> tuple[list[str], list[str]]:
    """(what was shown, what could not be), each a list of sentences. Raises VendorError for what is wrong."""
    shown, warnings = [], []
    if found.soc and found.soc != options.soc:
        raise VendorError(
            f"the .om is for {found.soc}, not for {options.soc}", "compile again, with SOC= as it should be"
        )
    for kind, ports, expected in (
        ("input", found.inputs, [_expected_input(job, options)]),
        ("output", found.outputs, [Port(one.name, "float32", _free(one.shape, options)) for one in job.outputs]),
    ):
        told = ", ".join(map(str, ports)) or "none"
        if not ports:
            warnings.append(f"the {kind}s could not be read from atc's JSON of the .om: they are checked on the board")
            continue
        if len(ports) != len(expected):
            raise VendorError(
                f"the .om has {len(ports)} {kind}(s), {told}, and the network has {len(expected)}",
                "a node that was fused away cannot be an output: export the graph with those outputs last",
            )
        for port, wanted in zip(ports, expected):  # noqa: B905 - equally long; strict= is newer than Python 3.9
            warnings += _compare_port(kind, port, wanted, options)
        shown.append(f"{kind}s of the .om by `atc --mode=1`: {told}")
    if options.dynamic and found.command and _profiles(options) not in found.command:
        raise VendorError(f"the .om was not compiled for {_profiles(options)}: {found.command}", "compile again")
    if found.soc:
        shown.append(f"the .om names {found.soc} as its chip")
    return shown, warnings


def _compare_port(kind: str, port: Port, wanted: Port, options: BuildOptions) -> list[str]:
    """Sentences on what could not be compared. Raises VendorError for a difference that cannot be right."""
    notes = []
    if port.name and port.name != wanted.name:
        if kind == "output":
            raise VendorError(
                f"the .om's output is {port.name}, and {wanted.name} should be there", "compile again: see atc.log"
            )
        notes.append(f"the input is called {port.name} in the .om, and {wanted.name} in the network")
    if port.dtype != wanted.dtype:
        notes.append(f"{kind} {wanted.name} of the .om is {port.dtype}, not {wanted.dtype}: device.py converts")
    # Inside an .om tensors may have five dimensions (NC1HWC0); a shape that is free may be written as its largest.
    comparable = len(port.shape) == len(wanted.shape) and not (options.dynamic and -1 not in port.shape)
    if not comparable or (options.pixels and kind == "input" and sorted(port.shape) == sorted(wanted.shape)):
        if port.shape != wanted.shape:
            notes.append(f"{kind} {wanted.name} of the .om has the shape {list(port.shape)}, not {list(wanted.shape)}")
    elif port.shape != wanted.shape:
        raise VendorError(
            f"the .om's {kind} {wanted.name} is of shape {list(port.shape)}, not {list(wanted.shape)}",
            "compile again; the graph and job.json do not belong together",
        )
    return notes


def _free(shape: tuple[int, ...], options: BuildOptions) -> tuple[int, ...]:
    if options.sizes and len(shape) == 4:
        return (*shape[:2], -1, -1)
    return (-1, *shape[1:]) if options.batches else shape


def _expected_input(job: Job, options: BuildOptions) -> Port:
    tensor = job.inputs[0]
    batch, channels, height, width = _free(tensor.shape, options)
    if options.pixels:
        return Port(tensor.name, "uint8", (batch, height, width, channels))
    return Port(tensor.name, "float32", (batch, channels, height, width))


def _profiles(options: BuildOptions) -> str:
    if options.sizes:
        return ";".join(f"{height},{width}" for height, width in options.sizes)
    return ",".join(map(str, options.batches))
