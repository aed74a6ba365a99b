"""What Hailo's SDK says when it fails, and what helps: its exceptions as messages with a hint."""

from __future__ import annotations

import re

from failure import VendorError

LONGEST = 700
DEFAULT_HINT = "README.md, Common errors; the SDK's own messages stand above (compile.log, infer.log)"
RECOMMENDATION = "ParsingWithRecommendationException"
# What is found in "Type: text" -> what helps. The first that matches counts.
CURES = [
    (r"MisspellNodeError", "END_NODES= takes names of nodes as `make explain` or Netron shows them, not of tensors"),
    (
        r"UnsupportedShuffleLayerError|UnsupportedModelError|UnsupportedOperationError|Unsupported\w+LayerError",
        "this operator does not fit Hailo's network: end it before that node, or replace it; operators.yaml",
    ),
    (r"is not in list", "a node has no name or a stale one: run make again, which fixes the graph"),
    (
        r"BadInputsShape|doesn't match",
        "the tensors have to be (N, H, W, C): README.md, Unproven: layout of the calibration set",
    ),
    (r"Couldn't detect CalibrationDataType", "README.md, Unproven: data_type of optimize()"),
    (
        r"not a valid NMSMetaArchitectures",
        "this SDK is too old for NMS=hailort: take a newer one, or leave NMS= out",
    ),
    (r"expected conv but found activation", "end the network at the convolution before the activation: END_NODES="),
    (
        r"BackendValueError|NaN values",
        "weights or calibration hold NaN, or the images are all alike: CALIB=",
    ),
    (
        r"Agent infeasible|Mapping Failed|No successful assignment|BackendAllocatorException",
        "the network was not fitted into the chip: ALLS= a file with performance_param(compiler_optimization_level=max)"
        " or allocator_param(width_splitter_defuse=disabled); a smaller input; hailo8 has twice the room of hailo8l",
    ),
    (
        r"NegativeSlopeExponentNonFixable|unsupported required slope|Desired shift",
        "ranges too far apart for 8 bits: more and real calibration images; RUNG=2 (equalization off); ALLS= a file "
        "with quantization_param({that layer}, precision_mode=a16_w16)",
    ),
    (r"shift delta|force_range_in", "ALLS= a file with the quantization_param line that the message proposes"),
    (r"no alls found", "README.md, Unproven: load_model_script"),
    (r"PermissionError", "the job folder has to be writable for the container's user: docker run -u $(id -u):$(id -g)"),
    (r"KeyError: 'USER'", "README.md, Unproven: USER"),
    (
        r"MemoryError|ResourceExhausted|OOM|out of memory",
        "more memory, fewer calibration images (CALIB_COUNT=), no GPU",
    ),
    (r"[Ll]icen[cs]e", "this SDK asks for a licence: see Hailo's Developer Zone"),
]


def recommended_end_nodes(error: BaseException) -> list[str]:
    """The end nodes that the parser recommends: an attribute of the exception in some versions, in all of them the end
    of its text, "... end node names: A, B". Empty when there are none."""
    told = getattr(error, "recommended_end_node_names", None)
    if isinstance(told, (list, tuple)) and told:
        return [str(name) for name in told]
    found = re.findall(r"end[ _]nodes?(?: names)?[^:]*:\s*([^\n]+)", str(error), re.IGNORECASE)
    names = [word.strip(" '\"[].") for word in found[-1].split(",")] if found else []
    return [name for name in names if name and " " not in name]


def explained(what: str, error: BaseException, version: str) -> VendorError:
    """A failure of the SDK as a message and a hint. what: the call; version: of the SDK."""
    text = " ".join(str(error).split()) or "it says nothing more"
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} ..."
    kind = type(error).__name__
    message = f"Hailo's {what} failed ({version}): {kind}: {text}"
    if any(kind == RECOMMENDATION for kind in (one.__name__ for one in type(error).__mro__)):
        names = recommended_end_nodes(error)
        if names:
            return VendorError(
                f"Hailo's parser cannot take the end of this network, and recommends the end nodes {', '.join(names)}; "
                f"its reason: {text}",
                f"if those give the network's outputs: make it again with END_NODES={','.join(names)}",
            )
        return VendorError(message, "the parser recommends an earlier end: README.md, END_NODES")
    for pattern, hint in CURES:
        if re.search(pattern, f"{kind}: {error}"):
            return VendorError(message, hint)
    return VendorError(message, DEFAULT_HINT)
