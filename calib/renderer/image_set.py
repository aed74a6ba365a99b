"""Writing a rendered image set: photographs, COCO annotations and a manifest, all of it or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib.renderer.annotation import CATEGORY, annotate
from calib.renderer.scene import MOST_PEOPLE, render_scene
from calib.renderer.seeds import SEED_LIMIT, scene_generator
from common.basics.errors import UserError
from common.basics.files import replacing_folder, sha256_file, write_json
from common.basics.progress import Progress

SET_FILE, ANNOTATIONS_FILE, MANIFEST_FILE = "set.yaml", "person_keypoints.json", "manifest.json"
EXAMPLE_HINT = "compare it with calib/people_evaluation/set.yaml"


class SetSpec(BaseModel):
    """What a set.yaml says. people: how many annotated persons; purpose and seed: which random numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    renderer: Literal["people"]
    purpose: Literal["calibration", "evaluation"]
    seed: Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
    people: Annotated[int, Field(gt=0, le=100_000)]


def load_set(path: Path) -> SetSpec:
    """Read and check a set.yaml. Raises UserError that names the file and the key."""
    try:
        return SetSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "it says what to draw: see calib/README.md") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not valid YAML: {error}", EXAMPLE_HINT) from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise UserError(f"{path}: {problems}", EXAMPLE_HINT) from None


def render_set(folder: Path) -> int:
    """Draw the image set that folder/set.yaml describes, into that folder; returns the number of images.

    The folder is replaced as a whole when everything is drawn, so that an interruption leaves the old one; the manifest
    is in it, so that it is there only if all the rest is.
    """
    set_file = folder / SET_FILE
    spec = load_set(set_file)
    with replacing_folder(folder) as temporary:
        images, annotations = [], []
        with Progress(f"render {folder.name}", spec.people, unit="people") as progress:
            while len(annotations) < spec.people:
                number = len(images) + 1
                rng = scene_generator(spec.purpose, spec.seed, number)
                scene = render_scene(rng, most_people=min(MOST_PEOPLE, spec.people - len(annotations)))
                name = f"{number:06d}.jpg"
                (temporary / name).write_bytes(scene.jpeg)
                height, width = scene.image.shape[:2]
                images.append({"id": number, "file_name": name, "width": width, "height": height})
                for person in scene.people:
                    annotations.append(annotate(len(annotations) + 1, number, person.keypoints, person.mask))
                progress.advance(len(scene.people))
        ground_truth = {
            "info": {"description": f"Rendered people ({spec.purpose}, seed {spec.seed}), npumake"},
            "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
            "images": images,
            "annotations": annotations,
            "categories": [CATEGORY],
        }
        write_json(temporary / ANNOTATIONS_FILE, ground_truth)
        names = [ANNOTATIONS_FILE, *(image["file_name"] for image in images)]
        manifest = {
            "version": 1,
            **spec.model_dump(),
            "images": len(images),
            "labelled_keypoints": sum(annotation["num_keypoints"] for annotation in annotations),
            "sha256": {name: sha256_file(temporary / name) for name in names},
        }
        write_json(temporary / MANIFEST_FILE, manifest)
        # With its old time: a set.yaml that looks new would have make draw the set again.
        shutil.copy2(set_file, temporary / SET_FILE)
    return len(images)
