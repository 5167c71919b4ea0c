"""What the playground shows of a picture, and what it does when something goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.clients.houses import Served

pytestmark = pytest.mark.heavy

ANOTHER = ".stage-card input[type=file]"


def look(page: Page, house: Served, file: Path, model: str = "yolo11n") -> None:
    page.goto(f"{house.url}/#/play/{model}")
    page.locator(".drop input").set_input_files(file)
    page.locator(".spent").wait_for()


def test_a_turned_picture_is_shown_upright_also_when_it_is_not_the_first(
    page: Page, house: Served, data: Path
) -> None:
    formats = data / "images" / "formats"
    look(page, house, formats / "rgb.jpg")
    for _ in range(2):
        page.locator(ANOTHER).set_input_files(formats / "exif_orientation_6.webp")
        page.wait_for_function("() => document.querySelector('.stage img')?.naturalWidth === 134")
        with page.expect_response(lambda answer: answer.url.endswith("/predict")):
            page.locator(ANOTHER).set_input_files(formats / "rgb.png")
        page.locator(".list li").first.wait_for()
