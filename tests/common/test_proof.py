"""The ladder of proof turns red, and only for the right reasons; the sidecar says what an application needs."""

import hashlib
import json
import os

import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.declarations.spec import GateSpec
from common.job import Cell
from common.preprocessing.preprocess import box_to_center_scale, to_image
from common.proof import judge_agreement, judge_export, judge_fix, judge_metric, judge_preflight, prove, verdict
from tests.common.cell_fixture import CHIP, make_cell

GATE = GateSpec(oks=0.95, ap_drop=0.03)


def measured(before, after, interval, metric="AP"):
    drop = None if before is None else before - after
    return {"metric": metric, "float": {metric: before}, "chip": {metric: after},
            "drop": {metric: drop, "interval": interval}, "protocol": "in words"}  # fmt: skip


def compared(oks):
    return {"similarity": "OKS", "agreement": oks, "samples": 9, "compared": 9,
            "outputs": {"heatmaps": {"cosine": 0.999, "sqnr_db": 30.0, "max_abs": 0.1}}}  # fmt: skip


def state_of(cell, name):
    return next(step for step in read_json(cell / "proof.json")["steps"] if step["name"] == name)


@pytest.mark.parametrize(
    ("before", "after", "interval", "state"),
    [
        (0.90, 0.88, [0.01, 0.03], "passed"),  # a real loss, but a small one
        (0.90, 0.91, [-0.02, 0.01], "passed"),  # a gain
        (0.90, 0.84, [0.02, 0.10], "failed"),  # large, and not chance
        (0.90, 0.84, [-0.01, 0.12], "not judged"),  # large, and may be chance
        (0.90, 0.84, None, "failed"),  # large, and nothing that excuses it
        (None, None, None, "not judged"),
    ],
)
def test_the_metric_is_red_only_for_a_loss_above_the_gate_that_is_not_chance(before, after, interval, state):
    found = judge_metric(measured(before, after, interval), GATE, "published")
    assert found.state == state
    assert bool(found.why) == (state == "not judged")


def test_figures_name_what_was_measured():
    figures = judge_metric(measured(0.9, 0.84, [0.02, 0.1]), GATE, "published").figures
    assert figures == "AP 0.9000 float, 0.8400 chip, drop 0.0600, 95 % interval +0.0200 to +0.1000 (gate 0.03)"


def test_the_metric_and_the_similarity_go_by_their_names():
    found = judge_metric(measured(0.9, 0.8, [0.05, 0.15], "PCKh"), GATE, "published")
    assert (found.state, found.figures[:44]) == ("failed", "PCKh 0.9000 float, 0.8000 chip, drop 0.1000,")
    missing = judge_metric(measured(None, None, None, "PCKh") | {"reason": "no joints"}, GATE, "published")
    assert missing.why == "no PCKh: no joints"
    detected = judge_agreement(compared(0.7) | {"similarity": "IoU"}, GATE, "published")
    assert (detected.state, detected.figures[:34]) == ("failed", "IoU 0.7000 against float (gate 0.9")


def test_figures_say_when_the_people_are_rendered():
    assert judge_metric(measured(0.9, 0.9, [0, 0]), GATE, "path", rendered=True).figures.endswith("on rendered people")


@pytest.mark.parametrize(("oks", "state"), [(0.95, "passed"), (0.9499, "failed"), (1.0, "passed")])
def test_agreement_goes_by_the_gate(oks, state):
    assert judge_agreement(compared(oks), GATE, "path").state == state


def test_random_weights_are_never_judged():
    assert judge_agreement(compared(0.1), GATE, "random")[::2] == ("not judged", "random weights")
    assert judge_metric(measured(0.9, 0.1, [0.7, 0.9]), GATE, "random")[::2] == ("not judged", "random weights")


def test_agreement_over_nothing_proves_nothing():
    verdict = judge_agreement(compared(1.0) | {"compared": 0}, GATE, "path")
    assert verdict.state == "not judged" and "nothing was found" in verdict.why and "1.0000" not in verdict.figures


def test_steps_before_the_chip_are_judged_by_their_numbers():
    proof = {"max_abs": 2e-4, "tolerance": 1e-4, "same_peaks": 1.0, "samples": {"random": 3, "real": 3}}
    export = {"opset": 11, "ir_version": 7, "proof": proof}
    assert judge_export(export).state == "failed"
    assert judge_export(export | {"proof": proof | {"max_abs": 5e-5}}).state == "passed"
    assert judge_export(export | {"proof": None}).state == "not applicable"
    fix = {"passes": [{"name": "simplify", "changed": True}], "tolerance": 1e-4, "largest_output": 0.5,
           "max_abs": 6e-5, "yardstick": "onnxruntime"}  # fmt: skip
    assert judge_fix(fix).state == "failed"  # allowed: 5e-5
    assert judge_fix(fix | {"max_abs": 4e-5}).state == "passed"
    preflight = {"ok": False, "nodes": 3, "operators": ["A"], "chip": "c", "problems": [{"problem": "A is unknown"}]}
    assert judge_preflight(preflight).state == "failed"
    assert "A is unknown" in judge_preflight(preflight).figures


PROOF = {"max_abs": 2e-5, "tolerance": 1e-4, "same_peaks": None, "samples": {"random": 3, "real": 2}}
CUT = {"description": "cut at its 6 head convolutions", "max_abs": 3e-4, "tolerance": 1e-3}


@pytest.mark.parametrize(
    ("proof", "cut", "state", "words"),
    [
        (PROOF, None, "passed", "differ by 2e-05 at most (allowed 0.0001), on 3 random and 2 real inputs"),
        (PROOF, CUT, "passed", "cut at its 6 head convolutions: decoding on the host differs from the graph's own by "
         "0.0003 at most (allowed 0.001)"),
        (None, CUT, "passed", "the user's own ONNX (opset 11, IR 7); cut at its 6"),
        (None, CUT | {"max_abs": 2e-3}, "failed", "by 0.002 at most"),
        (PROOF, CUT | {"max_abs": 2e-3}, "failed", "by 0.002 at most"),
        (PROOF | {"max_abs": 1.0}, CUT, "failed", "torch and ONNX differ by 1 at most"),
        (PROOF, CUT | {"max_abs": None, "tolerance": None}, "passed", "not compared"),
        (None, CUT | {"max_abs": None, "tolerance": None}, "not applicable", "not compared"),
    ],
)  # fmt: skip
def test_the_export_of_any_network(proof, cut, state, words):
    """A detector has no peaks to speak of; where its decode was cut off, the host's must be the same."""
    found = judge_export({"opset": 11, "ir_version": 7, "proof": proof, "cut": cut})
    assert found.state == state and words in found.figures
    assert "peaks" not in found.figures


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["passed", "not applicable", "passed"], "proven"),
        (["passed", "not judged", "passed"], "not judged"),
        (["not judged", "failed", "passed"], "failed"),
    ],
)
def test_one_red_step_decides(states, expected):
    steps = [{"name": f"step {state}", "state": state, "figures": "f", "why": "w"} for state in states]
    assert verdict(steps)[0] == expected


def test_an_equal_chip_is_proven(made_cells):
    cell = made_cells / "out/toy_pose" / CHIP / "fp32"
    proof = read_json(cell / "proof.json")
    assert (proof["state"], proof["reason"], proof["weights"]) == ("proven", "", "published")
    assert proof["gate"] == {"oks": 0.999, "ap_drop": 0.002}
    assert [step["name"] for step in proof["steps"]] == [
        "preflight", "export", "fix", "calibration lint", "float on chip", "quantised agreement", "task metric",
    ]  # fmt: skip
    assert state_of(cell, "float on chip")["state"] == "passed"
    assert state_of(cell, "float on chip")["figures"].endswith("heatmaps: equal to the bit")
    assert state_of(cell, "quantised agreement")["state"] == "not applicable"


def test_a_noisy_chip_fails_by_its_accuracy_and_says_by_how_much(made_cells):
    cell = made_cells / "out/toy_pose" / CHIP / "int8"
    metrics, proof = read_json(cell / "metrics.json"), read_json(cell / "proof.json")
    assert proof["state"] == "failed"
    assert metrics["drop"]["AP"] > 0.03
    assert f"drop {metrics['drop']['AP']:.4f}" in proof["reason"]
    assert state_of(cell, "float on chip")["state"] == "passed"  # from the fp32 cell beside it


def test_random_weights_leave_a_cell_not_judged(made_cells):
    proof = read_json(made_cells / "out/lost_pose" / CHIP / "int8/proof.json")
    assert (proof["state"], proof["reason"]) == ("not judged", "random weights")
    assert proof["steps"][4]["state"] == "not applicable"  # no fp32 cell


def test_the_sidecar_holds_hashes_of_all_that_went_in(made_cells):
    cell = made_cells / "out/toy_pose" / CHIP / "int8"
    sidecar = read_json(cell / "artifact.json")

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert sidecar["artifact"]["files"]["toy_pose.bin"] == {"bytes": 31000, "sha256": digest(cell / "toy_pose.bin")}
    origin = sidecar["provenance"]
    assert origin["source"] == {"kind": "weights", "path": "models/w.pth", "sha256": "ab" * 32, "origin": "published"}
    assert origin["onnx_sha256"] == digest(cell / "model.onnx")
    assert origin["float_onnx_sha256"] == digest(cell.parents[1] / "float/model.onnx")
    assert origin["calibration"]["manifest_sha256"] == digest(cell / "calib/manifest.json")
    assert origin["licence"] == "Apache-2.0"
    assert origin["tools"]["testsdk"] == "9.8.7"
    assert origin["tools"]["numpy"] == np.__version__
    assert sidecar["proof"]["state"] == "failed"
    assert sidecar["proof"]["AP_chip"] == read_json(cell / "metrics.json")["chip"]["AP"]
    assert not sidecar["random_weights"]
    assert read_json(made_cells / "out/lost_pose" / CHIP / "int8/artifact.json")["random_weights"]


def test_the_sidecar_s_words_compute_what_npumake_computes(made_cells):
    """Follow its formulas by hand, for a box that is too wide, and hold them against preprocessing/preprocess.py."""
    sidecar = read_json(made_cells / "out/toy_pose" / CHIP / "int8/artifact.json")
    ready, decode = sidecar["preprocessing"], sidecar["decode"]
    assert ready["chip_flags"]["--mean"] == "123.675,116.28,103.53"
    assert (ready["color"], ready["mean"], ready["std"]) == ("rgb", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert ready["shape"] == [1, 3, 128, 96]
    assert decode["shape"] == [1, 17, 64, 48]
    assert decode["stride"] == [2, 2]
    assert decode["keypoints"][9] == "left_wrist"
    x, y, width, height = 10, 20, 90, 60
    padded = width * ready["padding"]  # the box is wider than 96/128, so the width stays
    heat_x, heat_y = 30.25, 11.75
    by_hand = [x + width / 2 + (heat_x - 24) * padded / 48, y + height / 2 + (heat_y - 32) * padded / 48]
    assert decode["steps"][2].startswith(
        "image x = centre x + (x - 24) * w / 48; image y = centre y + (y - 32) * w / 48"
    )
    center, scale = box_to_center_scale([x, y, width, height], ready["aspect_ratio"], ready["padding"])
    assert np.allclose(to_image(np.array([heat_x, heat_y]), center, scale, (48, 64)), by_hand)


def test_forced_lint_is_recorded_and_leaves_the_cell_not_judged(tmp_path, test_chip):
    cell = make_cell(tmp_path, "int8", force=True, people=4)  # 6 calibration samples, 8 are the least
    proof = prove(Cell(cell))
    assert (proof["state"], proof["reason"]) == ("not judged", "FORCE=1 overrode the calibration lint")
    forced = read_json(cell / "artifact.json")["forced_lint"]
    assert len(forced) == 1
    assert "count" in forced[0]


def test_without_ground_truth_accuracy_is_not_judged(tmp_path, test_chip):
    cell = make_cell(tmp_path, "int8", ground_truth=False, people=4)
    proof = prove(Cell(cell))
    assert proof["state"] == "not judged"
    assert "person_keypoints.json" in proof["reason"]
    assert state_of(cell, "quantised agreement")["state"] == "passed"


def test_an_fp32_cell_of_another_float_network_proves_nothing(tmp_path, test_chip):
    fp32, int8 = (make_cell(tmp_path, variant, people=4) for variant in ("fp32", "int8"))
    os.utime(fp32 / "compare.json", (1, 1))
    prove(Cell(int8))
    assert state_of(int8, "float on chip")["state"] == "not applicable"


def test_a_bad_float_layout_fails_the_quantised_cell_too(tmp_path, test_chip):
    fp32, int8 = (make_cell(tmp_path, variant, people=4) for variant in ("fp32", "int8"))
    write_json(fp32 / "compare.json", read_json(fp32 / "compare.json") | {"agreement": 0.5})
    assert prove(Cell(int8))["state"] == "failed"
    assert "OKS 0.5000" in state_of(int8, "float on chip")["figures"]


@pytest.mark.parametrize("file", ["metrics.json", "compare.json", "fix.json", "preflight.json", "compile.json"])
def test_a_missing_or_damaged_file_is_named_and_nothing_is_written(tmp_path, test_chip, file):
    cell = make_cell(tmp_path, "int8", people=3)
    whole = (cell / file).read_text()
    (cell / file).write_text(whole[:-5])
    with pytest.raises(UserError, match=f"{file} is not valid JSON"):
        prove(Cell(cell))
    (cell / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        prove(Cell(cell))
    assert not (cell / "proof.json").exists()
    (cell / file).write_text(json.dumps(json.loads(whole)))
    prove(Cell(cell))


@pytest.mark.parametrize(("task", "similarity"), [("bottomup_pose", "OKS"), ("detection", "IoU")])
def test_networks_of_whole_photographs_climb_the_same_ladder(whole_cells, task, similarity):
    fp32, int8 = (whole_cells / "out" / task / CHIP / variant for variant in ("fp32", "int8"))
    assert read_json(fp32 / "proof.json")["state"] == "proven"
    assert state_of(fp32, "float on chip")["figures"].startswith(f"{similarity} 1.0000 against float (gate 0.999)")
    compared = read_json(int8 / "compare.json")
    figures = state_of(int8, "quantised agreement")["figures"]
    assert compared["agreement"] < 0.9999 and figures.startswith(f"{similarity} {compared['agreement']:.4f} against")
    assert state_of(int8, "calibration lint")["state"] == "passed"
    metrics = read_json(int8 / "metrics.json")
    assert metrics["float"]["AP"] == pytest.approx(1)
    assert f"AP 1.0000 float, {metrics['chip']['AP']:.4f} chip" in state_of(int8, "task metric")["figures"]
