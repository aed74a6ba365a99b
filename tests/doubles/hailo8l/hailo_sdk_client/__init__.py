"""A strict stand-in for hailo_sdk_client, Hailo's Dataflow Compiler 3.x: the calls that public documents and callers
show, in their order, and nothing else. Where the real one guesses, warns or ignores, this one raises.

What each rule is taken from is named beside it: HMZ is github hailo-ai/hailo_model_zoo at v2.18, LUX is github
luxonis/modelconverter (packages/hailo). What it computes: onnxruntime, with weights and activations rounded to 8-bit
integers. Variables: HAILO_DOUBLE_FAILS=<call>[:<how>] (how: a message, abort, exit, quit, empty), HAILO_DOUBLE_VERSION,
HAILO_DOUBLE_RECOMMENDS=<node>,<node>, HAILO_DOUBLE_OLDER=<method>, HAILO_DOUBLE_LACKS=<method>,
HAILO_DOUBLE_GPUS=<count>.
"""

import os
from pathlib import Path

from hailo_sdk_client.failing import fail

NPUMAKE_DOUBLE = True
__version__ = os.environ.get("HAILO_DOUBLE_VERSION", "3.33.1")

fail("import")
# The real one writes its logs into the working folder when it is imported, and reads USER (public Dockerfiles).
assert os.access(".", os.W_OK), f"the working folder {Path.cwd()} cannot be written into"
assert os.environ.get("USER") and os.environ.get("HOME"), "USER and HOME have to be set"
assert os.access(os.environ["HOME"], os.W_OK), "HOME has to be writable"
Path("hailo_sdk.client.log").write_text("double\n", encoding="utf-8")

from hailo_sdk_client.client_runner import ClientRunner  # noqa: E402
from hailo_sdk_client.exposed_definitions import InferenceContext, States  # noqa: E402

__all__ = ["ClientRunner", "InferenceContext", "States"]

if name := os.environ.get("HAILO_DOUBLE_OLDER"):  # a version whose method takes other arguments
    setattr(ClientRunner, name, lambda self: None)
if name := os.environ.get("HAILO_DOUBLE_LACKS"):  # a version that does not have the method
    delattr(ClientRunner, name)
