"""What a model.yaml says under `decode`: how a network's outputs become people or objects. One kind for each task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from common.declarations.keypoints import KEYPOINT_SETS

PositiveInt = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """An unknown key is an error: a misspelt `mean` must not become no mean."""

    # A part of a declaration is compiled where it is used, with the whole, and not once more by itself at every start.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _check_keypoints(name: str) -> str:
    if name not in KEYPOINT_SETS:
        raise ValueError(f"keypoints '{name}' is not one of {', '.join(KEYPOINT_SETS)}")
    return name


def _check_odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even: a pixel's neighbourhood has a middle")
    return number


Keypoints = Annotated[str, AfterValidator(_check_keypoints)]


class HeatmapSpec(Strict):
    """How the heatmaps of one person's crop become keypoints, and boxes crops. refine: quarter-pixel shift, DARK, none.

    padding: crop size over box size. ground_truth_boxes: "annotated", or "hrnet" for one pixel smaller, as HRNet's
    own data code takes them; either is clipped to the image.
    """

    kind: Literal["heatmap"]
    keypoints: Keypoints
    refine: Literal["quarter", "dark", "none"] = "quarter"
    padding: Annotated[float, Field(gt=0)] = 1.25
    ground_truth_boxes: Literal["annotated", "hrnet"] = "annotated"


class AssociativeEmbeddingSpec(Strict):
    """How heatmaps and tags of a whole image become people. The defaults are HigherHRNet's published ones
    (experiments/coco/higher_hrnet/*.yaml, TEST; its code's own defaults are others).

    detection_threshold: the least heatmap value of a candidate; nms_kernel: a peak is the largest of so many pixels;
    tag_threshold: the largest tag distance within a person; maximum_people: candidates of a joint, and people that
    further joints may join (more may be found: the published code has it so).
    """

    kind: Literal["associative_embedding"]
    keypoints: Keypoints
    detection_threshold: Annotated[float, Field(ge=0)] = 0.1
    nms_kernel: Annotated[int, Field(gt=0), AfterValidator(_check_odd)] = 5
    tag_threshold: Annotated[float, Field(gt=0)] = 1.0
    use_detection_value: bool = True
    ignore_too_much: bool = False
    maximum_people: PositiveInt = 30
    adjust: bool = True
    refine: bool = True


class Yolov8Spec(Strict):
    """How the head convolutions of a YOLOv8 become boxes (and keypoints).

    classes: "coco80" or names. regression_bins: values that each side of a box is a distribution over.
    score_threshold, overlap_threshold, maximum_detections: of the evaluation; shown_score: what people call found.
    """

    kind: Literal["yolov8"]
    classes: Literal["coco80"] | Annotated[list[str], Field(min_length=1)] = "coco80"
    keypoints: Keypoints | None = None
    regression_bins: PositiveInt = 16
    strides: Annotated[list[PositiveInt], Field(min_length=1)] = [8, 16, 32]
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.001
    shown_score: Annotated[float, Field(ge=0, le=1)] = 0.25
    overlap_threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    maximum_detections: PositiveInt = 300


DecodeSpec = Annotated[HeatmapSpec | AssociativeEmbeddingSpec | Yolov8Spec, Field(discriminator="kind")]
DECODED_BY = {"topdown_pose": "heatmap", "bottomup_pose": "associative_embedding", "detection": "yolov8"}
