"""What the readers of the documents bring along: networks, photographs, a clip; real ones, made of what npumake has."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import Project

CALIBRATION, EVALUATION = "calib/people_calibration", "calib/people_evaluation"


def lay(project: Project, url: str) -> None:
    """Everything that a document names and that is not in git, in a copy where `make demo` has run. url: of a server
    that has the small network's weights."""
    project.path("mynet.onnx").write_bytes(larger_network(project.path("out/hrnet_tiny/float/model.onnx")))
    ends = ({"name": "image", "shape": [1, 3, 64, 48]}, {"name": "maps", "shape": [1, 17, 16, 12]})
    onnx.save(two_convolutions(*ends), project.path("file.onnx"))
    image_set(project.path(CALIBRATION), project.path("photos/calibrate"), 40)
    image_set(project.path(EVALUATION), project.path("photos/measure"), 8)
    as_published(project.path("photos/measure"), project.path("coco"))
    shutil.copy2(project.path("photos/measure/000001.jpg"), project.path("photo.jpg"))
    clip(project.path("photos/measure"), project.path("clip.mp4"))
    small_network_of_a_large_name(project, "hrnet_tiny", "hrnet_w32_256x192", "hrnet_w32", url)
    shutil.copy2(project.path("models/hrnet_tiny/weights/hrnet_tiny.pth"), project.path("mine.pth"))


def image_set(source: Path, target: Path, count: int) -> None:
    """The first images of a rendered set, with their annotations."""
    target.mkdir(parents=True)
    content = json.loads((source / "person_keypoints.json").read_text())
    content["images"] = content["images"][:count]
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in known]
    (target / "person_keypoints.json").write_text(json.dumps(content))
    for image in content["images"]:
        shutil.copy2(source / image["file_name"], target)


def as_published(source: Path, target: Path) -> None:
    """The same as COCO is laid out, with detections that are the ground truth's boxes."""
    shutil.copytree(source, target / "val2017", ignore=shutil.ignore_patterns("*.json"))
    (target / "annotations").mkdir()
    shutil.copy2(source / "person_keypoints.json", target / "annotations/person_keypoints_val2017.json")
    annotations = json.loads((source / "person_keypoints.json").read_text())["annotations"]
    found = [{key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for one in annotations]
    (target / "person_detections.json").write_text(json.dumps(found))


def clip(source: Path, target: Path) -> None:
    """The photographs as frames of 320x320, 10 a second."""
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), 10, (320, 320))
    for path in sorted(source.glob("*.jpg")):
        writer.write(cv2.resize(cv2.imread(str(path)), (320, 320)))
    writer.release()


def larger_network(path: Path) -> bytes:
    """The trained network for pictures of twice the height and width: input [1, 3, 256, 192] -> average of 2x2 -> the
    network -> "maps" [1, 17, 64, 48], each value twice in both directions."""
    network = onnx.load(path)
    graph = network.graph
    (source,), (output,) = graph.input, graph.output
    shapes = [[2 * dim.dim_value if at > 1 else dim.dim_value for at, dim in enumerate(one.type.tensor_type.shape.dim)]
              for one in (source, output)]  # fmt: skip
    halved = helper.make_node("AveragePool", ["picture"], [source.name], "halve", kernel_shape=[2, 2], strides=[2, 2])
    doubled = helper.make_node("Resize", [output.name, "whole", "twice"], ["maps"], "double", mode="nearest",
                               coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    graph.node.insert(0, halved)
    graph.node.append(doubled)
    for name, values in (("whole", []), ("twice", [1, 1, 2, 2])):
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32), name))
    for values, name, shape in ((graph.input, "picture", shapes[0]), (graph.output, "maps", shapes[1])):
        del values[:]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    del graph.value_info[:]
    onnx.checker.check_model(network)
    return network.SerializeToString()


def small_network_of_a_large_name(project: Project, small: str, large: str, alias: str, url: str) -> None:
    """Let the published network be the small one, and its weights come from `url`: what a reader waits for an hour then
    takes seconds, and is trained all the same."""
    declared = project.path(f"models/{small}/model.yaml").read_text()
    for old, new in (
        ("demo: true\n", ""),
        (f"name: {small}\n", f"name: {large}\naliases: [{alias}]\n"),
        (f"file: {small}.pth\n", f"file: {small}.pth\n  url: {url}/{small}.pth\n"),
    ):
        assert declared.count(old) == 1
        declared = declared.replace(old, new)
    project.path(f"models/{large}/model.yaml").write_text(declared)


@contextmanager
def server_of(folder: Path) -> Iterator[str]:
    """The address of a server of this machine that has the folder's files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def two_convolutions(source: dict, output: dict) -> onnx.ModelProto:
    """A graph of random weights between an input and an output of these names and shapes."""
    random = np.random.default_rng(0)
    stride = source["shape"][2] // output["shape"][2]
    kernels = {"stem": (16, source["shape"][1], 3, 3), "head": (output["shape"][1], 16, 3, 3)}
    weights = [numpy_helper.from_array(random.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32), name)
               for name, shape in kernels.items()]  # fmt: skip
    nodes = [
        helper.make_node("Conv", [source["name"], "stem"], ["a"], "first", strides=[stride] * 2, pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Conv", ["b", "head"], [output["name"]], "third", pads=[1] * 4),
    ]
    ends = [helper.make_tensor_value_info(one["name"], TensorProto.FLOAT, one["shape"]) for one in (source, output)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    return onnx.shape_inference.infer_shapes(made)


def job_files(job: Path) -> None:
    """What a job.json names, where a reader copied the example: a graph, an input to try, and 8 tensors to calibrate on
    where it asks for that; of random pixels, normalised as it says."""
    asked = json.loads((job / "job.json").read_text())
    (source,), (output,) = asked["inputs"], asked["outputs"]
    onnx.save(two_convolutions(source, output), job / asked["graph"])
    pixels = np.random.default_rng(0).integers(0, 256, (9, *source["shape"][1:]))
    mean, std = (np.reshape(source[key], (1, -1, 1, 1)) for key in ("mean", "std"))
    tensors = ((pixels / source["scale"] - mean) / std).astype(np.float32)
    np.savez(job / asked["samples"], **{source["name"]: tensors[:1]})
    if "calibration" in asked:
        for index in range(1, len(tensors)):
            np.save(job / asked["calibration"] / f"{index}.npy", tensors[index : index + 1])
