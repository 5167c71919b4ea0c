"""Lists of class names that many models share; a sidecar or the catalogue may name them instead of writing them out."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from saccade.errors import CorruptFiles

COCO_80 = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)

VOC_21 = (
    "background,aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,motorbike,person,"
    "pottedplant,sheep,sofa,train,tvmonitor"
)

LISTS: dict[str, tuple[str, ...]] = {"coco-80": tuple(COCO_80.split(",")), "voc-21": tuple(VOC_21.split(","))}


MOST = 100_000
"""Classes of a model that does not name them. A file of a few bytes may say that it has billions."""


def fallback(classes: int) -> dict[int, str]:
    """Names for a model that brings none: COCO's if it has just as many classes, else class0, class1, …

    Raises:
        CorruptFiles: it says that it has more than :data:`MOST`.
    """
    return dict(enumerate(LISTS["coco-80"])) if classes == 80 else numbered("class", classes)


def numbered(word: str, classes: int) -> dict[int, str]:
    """The word with 0, 1, … behind it. Raises CorruptFiles: there would be more than :data:`MOST`."""
    if classes > MOST:
        raise CorruptFiles(
            f"The model says that it has {classes} classes and names none; expected at most {MOST}. Write their names "
            "into it, or fetch or export it again."
        )
    return {number: f"{word}{number}" for number in range(classes)}


def readable(names: dict[int, str]) -> dict[int, str]:
    """The names of ImageNet's classes where a model was trained on folders called after WordNet's ids (n01440764)."""
    if not any(name.startswith(("n0", "n1")) for name in names.values()):
        return names
    known = wordnet()
    return {number: known.get(name, name) for number, name in names.items()}


@cache
def wordnet() -> dict[str, str]:
    """ImageNet's thousand ids → the first word that WordNet 3.0 (Princeton University) has for each."""
    lines = files("saccade.stores").joinpath("imagenet.txt").read_text("utf-8").split()
    return dict(zip(lines[::2], lines[1::2], strict=True))
