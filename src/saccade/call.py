"""One request with no HTTP left in it, and its answer."""

from __future__ import annotations

import msgspec

from saccade.card import Task
from saccade.meter import Timings
from saccade.results import MaskForm, Result


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller may choose. None means: the family's own default.

    ``conf``: keep scores above it (strict). ``iou``: overlap at which non-maximum suppression drops a box.
    ``imgsz``: longer side of the network input, rounded up to the stride. ``classes``: keep these ids only.
    ``top_k``: how many labels. ``activation``: function from logits to label scores. ``subtask``,
    ``mask_threshold`` and ``overlap_threshold`` are those of Hugging Face segmentation.
    ``mask_form``: the form in which masks leave the worker.
    """

    conf: float | None = None
    iou: float | None = None
    imgsz: int | None = None
    max_det: int | None = None
    classes: tuple[int, ...] | None = None
    agnostic_nms: bool = False
    retina_masks: bool = False
    top_k: int | None = None
    activation: str | None = None
    subtask: str | None = None
    mask_threshold: float | None = None
    overlap_threshold: float | None = None
    mask_form: MaskForm = "polygon"
    candidate_labels: tuple[str, ...] | None = None
    hypothesis_template: str | None = None


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """How to walk through a video: every ``stride``-th frame; ``track`` adds ids that stay with an object."""

    stride: int = 1
    track: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to predict.

    ``media`` is the encoded image or video as it came; ``media_url`` is where the server may fetch it from, if it
    allows that, when the caller sent an address instead of bytes. ``task`` None takes the model's own. ``deadline`` is
    a ``time.monotonic()`` moment. ``caller`` names who pays and who is treated fairly (a key's id, never the key).
    ``clip`` None means: an image (an animation's first frame). With ``media_url``, ``clip`` counts only if what is
    fetched is a video or a GIF.
    """

    model: str
    media: bytes
    media_url: str | None = None
    options: Options = Options()
    task: Task | None = None
    deadline: float | None = None
    caller: str = "anonymous"
    priority: int = 0
    use_cache: bool = False
    wait_for_model: bool = True
    load_model: bool = True
    clip: Clip | None = None
    annotate: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: the result, the upright original's size, and how it came about.

    ``annotated`` is the drawn picture as JPEG bytes when the call asked for it. ``input_hw`` is the size at which
    the network ran.
    """

    result: Result
    image_hw: tuple[int, int]
    timings: Timings = Timings()
    model: str = ""
    revision: str = ""
    input_hw: tuple[int, int] | None = None
    cached: bool = False
    batch_size: int = 1
    annotated: bytes | None = None
