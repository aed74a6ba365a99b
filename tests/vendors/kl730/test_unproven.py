"""What the scripts do where the documents leave something open: other signatures, other texts, other names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.vendors.kl730.jobs import (
    arrays_of,
    environment,
    evaluated,
    failed,
    left_over,
    record_of,
    run_script,
    write_job,
)

TEXTS = """
import json
from evaluation import parse, text_of_report
old = '''Npu performance evaluation result:
kdp520/input bitwidth: int8
kdp520/ip_eval/fps: 21.352
kdp520/ip_eval/ITC(ms): 46.8341 ms
kdp520/cpu_node: N/A
, node, node origin, type, node backend,
33, max_pooling2d_6, max_pooling2d_6, NPU, max_pooling2d_6,
34, up_sampling2d_1, up_sampling2d_1, CPU, cpu_fusion_node_up_sampling2d_1,
'''
summary = "fps: 12\\nkdp730/cpu_node: Resize_1, TopK_3\\n"
told = "kdp730: HW not support operator [Floor] of node [x]\\nFPS: 3.5"
found = [parse(text) for text in (old, summary, told, "nothing at all")]
page = "<table><tr><td>kdp730/ip_eval/fps</td><td>77.5</td></tr><tr><th>cpu node</th><td>Resize_1</td></tr></table>"
found.append(parse(text_of_report(page)))
print(json.dumps([[one.frames, one.milliseconds, one.cpu_nodes, len(one.warnings)] for one in found]))
"""

SIGNATURES = """
import json
from unproven import SignatureError, fitting, installed_version
from pathlib import Path
import sys, tempfile
def older(input_mapping, output_dir, threads=4, percentage=0.999): ...
def anything(**options): ...
def other(input_mapping, folder): ...
kept, dropped = fitting("analysis", older, {"output_dir": "/x", "percentage": 1, "const_in_bitwidth_mode": "int8"})
free, none = fitting("analysis", anything, {"output_dir": "/x"})
built_in, _ = fitting("analysis", dict.update, {"output_dir": "/x"})
try:
    fitting("analysis", other, {"output_dir": "/x"})
    refused = ""
except SignatureError as error:
    refused = str(error)
file = Path(tempfile.mkdtemp()) / "version.txt"
versions = [installed_version(file)]
for text in ("kneron/toolchain:v0.33.1\\n", "toolchain 0.31.0 of 2025", "latest"):
    file.write_text(text)
    versions.append(installed_version(file))
print(json.dumps([sorted(kept), dropped, sorted(free), none, sorted(built_in), refused, versions]))
"""

MACHINES = """
import json
import host_limits
host_limits.cores = lambda: 16
answers = {}
def machine(gigabytes):
    host_limits.available_bytes = lambda: None if gigabytes is None else int(gigabytes * 1e9)
    return [host_limits.threads_for(640 * 640, 100_000_000, wide)[0] for wide in (False, True)]
answers = [machine(size) for size in (64, 12, 6, 0.5, None)]
print(json.dumps(answers))
"""


def test_texts_of_the_evaluator():
    assert evaluated(TEXTS) == [
        [21.352, 46.8341, ["up_sampling2d_1"], 1],
        [12.0, None, ["Resize_1", "TopK_3"], 1],
        [3.5, None, [], 1],
        [None, None, [], 0],
        [77.5, None, ["Resize_1"], 1],
    ]


def test_signatures_of_other_releases():
    kept, dropped, free, none, built_in, refused, versions = evaluated(SIGNATURES)
    assert kept == ["output_dir", "percentage"] and dropped == ["const_in_bitwidth_mode"]
    assert free == built_in == ["output_dir"] and none == []
    assert "output_dir" in refused and "analysis(input_mapping, folder)" in refused
    assert versions == ["unknown", "v0.33.1", "v0.31.0", "latest"]


def test_threads_by_memory():
    assert evaluated(MACHINES) == [[4, 4], [4, 2], [2, 1], [1, 1], [4, 4]]


def test_a_simulator_that_takes_no_output_names(compiled, copied, tmp_path):
    """For the .nef alone: by shape then; where shapes are equal, nothing is guessed."""
    folder = copied(compiled())
    done = run_script("infer.py", folder, KTC_DOUBLE="kneron_inference=unnamed")
    assert done.returncode == 0, done.stderr
    assert "the .nef takes no output names" in done.stderr
    found, stage = arrays_of(folder / "outputs.npz"), arrays_of(folder / "stage-nef.npz")
    assert all((stage[name] == found[name][:2]).all() for name in found)
    equal = Path(shutil.copytree(compiled(None, True), tmp_path / "equal"))
    (equal / "infer.json").unlink()
    failed(run_script("infer.py", equal, KTC_DOUBLE="kneron_inference=unnamed"), "neither names nor shapes")
    assert not (equal / "infer.json").exists()


def test_the_optimiser_may_not_change_the_outputs(tmp_path):
    folder = write_job(tmp_path / "job")
    failed(run_script("compile.py", folder, KTC_DOUBLE="optimize=rename"), "small_kn", "outputs")
    assert left_over(folder) == []


def test_an_older_toolchain_is_told_of_and_used(tmp_path):
    """A ktc whose analysis lacks an argument that is not needed: left out, recorded, warned of."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "sitecustomize.py").write_text(
        "import ktc\n"
        "real = ktc.ModelConfig.analysis\n"
        "def analysis(self, input_mapping, output_dir, threads, quantize_mode, datapath_range_method, percentage,\n"
        "             datapath_bitwidth_mode, weight_bitwidth_mode, model_in_bitwidth_mode, model_out_bitwidth_mode,\n"
        "             cpu_node_bitwidth_mode, mode, optimize, percentage_16b=1.0):\n"
        "    given = {name: value for name, value in locals().items() if name not in ('self', 'input_mapping')}\n"
        "    return real(self, input_mapping, **given)\n"
        "ktc.ModelConfig.analysis = analysis\n"
    )
    folder = write_job(tmp_path / "job")
    done = run_script("compile.py", folder, PYTHONPATH=os.pathsep.join([str(old), environment()["PYTHONPATH"]]))
    assert done.returncode == 0, done.stderr
    record = record_of(folder)
    assert record["quantization"]["left_out"] == ["const_in_bitwidth_mode", "compiler_tiling"]
    assert any("does not take: compiler_tiling, const_in_bitwidth_mode" in line for line in record["warnings"])
