"""Masks in other forms: against the reference's polygons, Pillow, and COCO's own tools."""

from __future__ import annotations

import dataclasses
import io
import zlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from saccade.errors import RunFailed
from saccade.ops.masks import chosen, compressed, contours, joined, nearest, on_image, outlines, png, rendered, rle
from saccade.results import Crop, Grid, Masks

A = [[0, 0], [0, 4], [4, 4], [4, 0]]
B = [[6, 0], [6, 4], [10, 4], [10, 0]]
C = [[12, 1], [12, 3], [14, 3], [14, 1]]
HOME_A = [[4, 4], [4, 0], [0, 0], [0, 4], [4, 4]]

GRID = Grid(640, 512, 512 / 600, 640 / 750, 0, 0, (750, 600))


def parts(*squares: list[list[int]]) -> list[np.ndarray]:
    return [np.array(square, np.float32) for square in squares]


def whole(hw: tuple[int, int]) -> Grid:
    return Grid(*hw, 1.0, 1.0, 0.0, 0.0, hw)


def masks(crops: list[Crop], grid: Grid) -> Masks:
    count = len(crops)
    return Masks(
        boxes_xyxy=np.zeros((count, 4), np.float32),
        scores=np.ones(count, np.float32),
        class_ids=np.zeros(count, np.int32),
        names=("thing",) * count,
        kind="instance",
        grid=grid,
        areas=np.array([crop.pixels.sum() for crop in crops], np.int32),
        crops=tuple(crops),
    )


def blobs(hw: tuple[int, int], seed: int) -> np.ndarray:
    """Random pixels in clumps."""
    dice = np.random.default_rng(seed)
    coarse = dice.random((hw[0] // 5 + 1, hw[1] // 7 + 1)) > 0.6
    return np.kron(coarse, np.ones((5, 7), np.uint8))[: hw[0], : hw[1]].astype(np.uint8)


EDGES = [
    Crop(0, 0, np.ones((30, 40), np.uint8)),
    Crop(5, 3, np.ones((1, 1), np.uint8)),
    Crop(39, 29, np.ones((1, 1), np.uint8)),
    Crop(0, 0, np.zeros((4, 4), np.uint8)),
    Crop(0, 0, np.zeros((0, 0), np.uint8)),
    Crop(40, 12, np.zeros((5, 0), np.uint8)),
    Crop(7, 0, np.ones((30, 3), np.uint8)),
    Crop(0, 9, np.ones((2, 40), np.uint8)),
    *(Crop(4, 2, blobs((26, 33), seed)) for seed in range(5)),
]


def painted(crop: Crop, hw: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(hw, np.uint8)
    tall, wide = crop.pixels.shape
    canvas[crop.y : crop.y + tall, crop.x : crop.x + wide] = crop.pixels
    return canvas


def test_two_parts_are_joined_at_their_nearest_points() -> None:
    ring = joined(parts(A, B))
    assert ring.tolist() == [*HOME_A, [6, 4], [10, 4], [10, 0], [6, 0], [6, 4]]


def test_the_way_back_finishes_the_middle_part() -> None:
    there = [[6, 4], [10, 4], [12, 3], [14, 3], [14, 1], [12, 1], [12, 3]]
    assert joined(parts(A, B, C)).tolist() == [*HOME_A, *there, [10, 4], [10, 0], [6, 0], [6, 4]]


def test_a_middle_part_is_walked_against_its_order_if_its_exit_comes_first() -> None:
    middle = [[10, 4], [10, 0], [6, 0], [6, 4]]
    there = [[6, 4], [6, 0], [10, 0], [10, 4], [12, 3], [14, 3], [14, 1], [12, 1], [12, 3]]
    assert joined(parts(A, middle, C)).tolist() == [*HOME_A, *there, [10, 4], [6, 4]]


def test_a_polygon_is_the_references_in_image_pixels() -> None:
    mask = np.zeros((640, 512), np.uint8)
    mask[100:200, 50:150] = 1
    mask[300:320, 200:260] = 1
    crop = Crop(30, 90, np.ascontiguousarray(mask[90:400, 30:300]))
    outline = outlines([crop], GRID)[0]
    xs = [234.375, 234.375, 303.51562, 303.51562, 234.375, 174.60938, 174.60938, 58.59375, 58.59375, 174.60938]
    ys = [351.5625, 373.82812, 373.82812, 351.5625, 351.5625, 233.20312, 117.1875, 117.1875, 233.20312, 233.20312]
    np.testing.assert_allclose(outline[:, 0], xs, atol=1e-4)
    np.testing.assert_allclose(outline[:, 1], ys, atol=1e-4)
    assert outline.dtype == np.float32
    again = outlines([Crop(0, 0, np.zeros((4, 4), np.uint8)), crop, crop], GRID)
    assert [len(one) for one in again] == [0, 10, 10]
    assert (again[2] == outline).all()


@pytest.mark.parametrize("form", ["polygon", "png", "rle"])
def test_empty_masks_can_be_rendered(form) -> None:
    crops = [Crop(3, 4, np.zeros((0, 0), np.uint8)), Crop(3, 4, np.zeros((5, 5), np.uint8))]
    found = rendered(masks(crops, whole((20, 30))), form)
    assert found.form == form
    assert not found.crops
    if form == "polygon":
        assert [outline.shape for outline in found.polygons] == [(0, 2)] * 2
    assert len(found.polygons) + len(found.pngs) + len(found.rles) == 2


def test_no_masks_can_be_rendered() -> None:
    assert rendered(masks([], whole((20, 30))), "png").pngs == ()


def test_segments_are_chosen_by_class_and_strength_and_keep_their_order() -> None:
    crops = [Crop(x, 0, np.ones((1, 1), np.uint8)) for x in range(4)]
    found = dataclasses.replace(
        masks(crops, whole((1, 4))),
        class_ids=np.array([0, 1, 1, 1], np.int32),
        scores=np.array([0.9, 0.3, 0.8, 0.5], np.float32),
    )
    assert chosen(found, None, None) is found
    assert [crop.x for crop in chosen(found, (1, 7), None).crops] == [1, 2, 3]
    assert [crop.x for crop in chosen(found, (1,), 2).crops] == [2, 3]
    assert [crop.x for crop in chosen(found, None, 2).crops] == [0, 2]
    assert chosen(found, (5,), 1).names == ()
    semantic = dataclasses.replace(found, kind="semantic")
    assert [crop.x for crop in chosen(semantic, (1,), 1).crops] == [1, 2, 3]


def test_a_rendered_result_keeps_its_form() -> None:
    found = rendered(masks(EDGES, whole((30, 40))), "png")
    assert rendered(found, "png") is found
    with pytest.raises(RunFailed, match="'png'"):
        rendered(found, "rle")


@pytest.mark.parametrize("crop", EDGES)
def test_pngs_hold_the_pixels(crop) -> None:
    picture = Image.open(io.BytesIO(png(crop, (30, 40))))
    picture.load()
    assert picture.mode == "L"
    assert picture.size == (40, 30)
    assert (np.asarray(picture) == painted(crop, (30, 40)) * 255).all()


def test_pngs_of_any_size_are_whole() -> None:
    for hw in ((1, 1), (1, 3000), (3000, 1), (1080, 1920), (17, 33)):
        top = hw[0] // 2
        crop = Crop(0, top, blobs(hw, 3)[top:])
        file = png(crop, hw)
        assert (np.asarray(Image.open(io.BytesIO(file))) == painted(crop, hw) * 255).all()
        packed = file[file.index(b"IDAT") + 4 : file.index(b"IEND") - 8]
        assert len(zlib.decompress(packed)) == hw[0] * (hw[1] + 1), "a row too many is an error to strict readers"


@pytest.mark.parametrize("crop", EDGES)
def test_run_lengths_are_those_of_cocos_tools(crop) -> None:
    mask = painted(crop, (30, 40))
    found = rle(crop, (30, 40))
    assert found.size == (30, 40)
    assert sum(found.counts) == 30 * 40
    expected = coco.encode(np.asfortranarray(mask))
    assert compressed(found) == expected["counts"].decode()
    assert (coco.decode(coco.frPyObjects({"size": [30, 40], "counts": list(found.counts)}, 30, 40)) == mask).all()


def test_long_runs_are_compressed_as_cocos_tools_do_it() -> None:
    mask = np.zeros((2000, 3000), np.uint8)
    mask[100:1900, 50:2900] = 1
    mask[500, 700] = 0
    crop = Crop(0, 0, mask)
    assert compressed(rle(crop, mask.shape)) == coco.encode(np.asfortranarray(mask))["counts"].decode()


def test_a_grid_of_another_size_is_sampled_at_the_centres_of_the_images_pixels() -> None:
    # Twice as fine as the image, one column of padding on the left.
    grid = Grid(4, 7, 2.0, 2.0, 1.0, 0.0, (2, 3))
    pixels = np.zeros((4, 7), np.uint8)
    pixels[1, 2] = pixels[3, 6] = pixels[0, 0] = 1
    moved = on_image(Crop(0, 0, pixels), grid)
    assert painted(moved, (2, 3)).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_coarse_grid_is_repeated() -> None:
    grid = Grid(2, 2, 0.25, 0.25, 0.0, 0.0, (8, 8))
    moved = on_image(Crop(1, 0, np.ones((1, 1), np.uint8)), grid)
    expected = np.zeros((8, 8), np.uint8)
    expected[:4, 4:] = 1
    assert (painted(moved, (8, 8)) == expected).all()


def test_outlines_of_any_length_are_linked() -> None:
    longest = np.stack((np.arange(70_000), np.arange(70_000) % 2), axis=1).astype(np.float32)
    assert nearest(np.array([[0, 9], [500, 2]], np.float32), longest) == (1, 499)


def test_outlines_never_leave_the_image() -> None:
    grid = Grid(10, 10, 1.0, 1.0, 3.0, 2.0, (6, 4))
    (outline,) = outlines([Crop(0, 0, np.ones((10, 10), np.uint8))], grid)
    assert (outline.min(axis=0).tolist(), outline.max(axis=0).tolist()) == ([0, 0], [4, 6])


def test_masks_in_the_padding_vanish() -> None:
    grid = Grid(10, 10, 1.0, 1.0, 3.0, 0.0, (10, 4))
    assert not painted(on_image(Crop(8, 0, np.ones((10, 2), np.uint8)), grid), (10, 4)).any()


def test_contours_of_a_crop_are_those_of_the_whole_mask() -> None:
    mask = blobs((60, 80), 9)
    mask[:20] = mask[:, :30] = mask[50:] = mask[:, 70:] = 0
    parted = contours(Crop(30, 20, np.ascontiguousarray(mask[20:50, 30:70])))
    full = contours(Crop(0, 0, mask))
    assert [part.tolist() for part in parted] == [part.tolist() for part in full]


@pytest.mark.parametrize("shift", [0, 30, 200])
@pytest.mark.parametrize("counts", [(150, 120), (1500, 1200)])
def test_the_nearest_points_of_two_contours_are_the_first_of_the_closest(shift, counts) -> None:
    dice = np.random.default_rng(shift)
    one = dice.integers(0, 60, (counts[0], 2)).astype(np.float32)
    other = dice.integers(shift, shift + 60, (counts[1], 2)).astype(np.float32)
    apart = ((one[:, None] - other[None]) ** 2).sum(-1)
    assert nearest(one, other) == divmod(int(apart.argmin()), counts[1])
