"""`make new-model NAME=mynet ONNX=file.onnx [SPEC=file.yaml]`: a declaration with what a graph tells, to be completed.

    python -m common.new_model --name NAME --onnx FILE [--spec FILE]

Writes models/NAME/model.yaml and lays the graph into models/NAME/weights/; with SPEC= that file alone, for a network
that stays outside. What no graph tells (colour order, mean and std, the order of the keypoints ...) says FILL_IN, under
a comment; until it is filled in, make refuses the file and names the line. Nothing is asked, nothing overwritten.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import onnx

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import replacing
from common.basics.wording import shape_text
from common.declarations.chip_spec import NAME_PATTERN, RESERVED_NAMES
from common.declarations.model_text import declaration
from common.declarations.open_places import open_places
from common.declarations.spec import MODELS_FOLDER, chip_names, model_names
from common.graphs.likely_task import Shapes, known_shapes, likely_task
from common.graphs.onnx_graph import load_onnx
from common.graphs.opening import CHANNELS_LAST, opening_of

LARGEST = 2_000_000_000  # bytes of one file of protobuf


def check_name(name: str) -> None:
    """Raises UserError (exit 2) for no name, one that is no folder's name, and one that is taken."""
    example = "make new-model NAME=mynet ONNX=file.onnx"
    if not name:
        raise UserError("how shall the model be called? NAME= is not set", example, USAGE_EXIT)
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"NAME={name}: a name is letters, digits, '_', '-' and '.', as of a folder", example, USAGE_EXIT
        )
    if name in RESERVED_NAMES:
        raise UserError(f"NAME={name} is a folder that npumake uses itself", "choose another NAME=", USAGE_EXIT)
    if name in model_names() or (MODELS_FOLDER / name).exists():
        place = model_names().get(name, MODELS_FOLDER / name)
        raise UserError(f"NAME={name} is taken by {place}", "choose another NAME=; nothing is overwritten", USAGE_EXIT)
    if name in chip_names():
        raise UserError(f"NAME={name} is a chip", "choose another NAME=", USAGE_EXIT)


def check_graph(shapes: Shapes, source: Path) -> None:
    """Raises UserError for a graph that npumake cannot build, however it is declared."""
    channels = shapes.image[1]
    if opening_of(shapes.model).layout == CHANNELS_LAST or (shapes.image[3] in (1, 3) and channels not in (1, 3)):
        raise UserError(
            f"{source} takes {shape_text(shapes.image)}: channels last", "export it channels first, as NCHW"
        )
    if channels not in (1, 3):
        raise UserError(f"{source} takes {channels} channels: no picture", "npumake builds networks of one picture")
    obstacle = likely_task(shapes).obstacle
    if obstacle:
        raise UserError(f"{source}: {obstacle[0]}", obstacle[1])


def lay_weights(source: Path, model: onnx.ModelProto, shapes: Shapes, target: Path) -> None:
    """The graph with its weights inside and a batch of one, as one file; byte for byte the user's where it was so."""
    raw = onnx.load_model(source, load_external_data=False)
    inside = not any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in raw.graph.initializer)
    with replacing(target) as temporary:
        if inside and not shapes.batch_set:
            shutil.copyfile(source, temporary)
            return
        kept = shapes.model if shapes.batch_set else model
        if kept.ByteSize() > LARGEST:
            raise UserError(f"{source}: its weights do not fit into one file", "use SPEC=file.yaml: it stays outside")
        onnx.save(kept, temporary)


def new_model(name: str, source: Path, spec: Path | None) -> Path:
    """Write the declaration, and the graph beside it unless spec says where; returns the declaration's path.

    Raises UserError, before anything is written, for a name or file that is taken and a graph that cannot be built.
    """
    check_name(name)
    target = spec or MODELS_FOLDER / name / "model.yaml"
    if target.exists():
        raise UserError(f"{target} is there already", "nothing is overwritten: choose another SPEC=", USAGE_EXIT)
    if spec and spec.suffix not in (".yaml", ".yml"):
        raise UserError(f"SPEC={spec} does not end in .yaml", f"SPEC={spec.with_suffix('.yaml')}", USAGE_EXIT)
    model = load_onnx(source)
    shapes = known_shapes(model, str(source))
    check_graph(shapes, source)
    text = declaration(name, source, shapes, weights=spec is None)
    if spec is None:
        lay_weights(source, model, shapes, target.parent / "weights" / f"{name}.onnx")
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if shapes.batch_set:
        _tell_batch(source, shapes, spec)
    return target


def _tell_batch(source: Path, shapes: Shapes, spec: Path | None) -> None:
    if spec is None:
        print(f"note: the batch of {source} is free; the copy in weights/ has a batch of 1")
    else:
        sizes = ",".join(map(str, shapes.image))
        print(f"note: the batch of {source} is free, and a chip needs a fixed one: .venv/common/bin/python -m "
              f"common.make_static {source} static.onnx {sizes}; then ONNX=static.onnx")  # fmt: skip


def print_next(target: Path, name: str, source: Path, own_file: bool) -> None:
    """What is still open, and the command that comes then."""
    print(f"{target}:")
    lines = target.read_text(encoding="utf-8").splitlines()
    for place in open_places(target):
        key = re.sub(r"^\s+", "", lines[place.line - 1]).split(":")[0]
        print(f"  line {place.line:3}  {place.key if place.key.endswith(key) else key}")
    print("Fill these in: the comment above each says with what. Then")
    network = f"ONNX={source} SPEC={target}" if own_file else f"MODEL={name}"
    print(f"  make CHIP {network} CALIB=photos/calibrate EVAL=photos/measure")


def main() -> None:
    """python -m common.new_model --name NAME --onnx FILE [--spec FILE]"""
    parser = argparse.ArgumentParser(description="write a declaration with what a graph tells")
    for name in ("name", "onnx", "spec"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    check_name(arguments.name)
    if not arguments.onnx:
        raise UserError(
            "which graph? ONNX= is not set", f"make new-model NAME={arguments.name} ONNX=file.onnx", USAGE_EXIT
        )
    source = Path(arguments.onnx)
    if not source.is_file():
        raise UserError(f"ONNX={arguments.onnx} is not a file", "check the path", USAGE_EXIT)
    target = new_model(arguments.name, source, Path(arguments.spec) if arguments.spec else None)
    print_next(target, arguments.name, source, bool(arguments.spec))


if __name__ == "__main__":
    run(main)
