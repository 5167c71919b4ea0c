"""The playground with a zero-shot model, which is told what to look for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect
from tests.clients.environments import environment, run
from tests.clients.houses import served
from tests.families import colours

pytestmark = pytest.mark.heavy


def test_a_zero_shot_model_is_told_what_to_look_for(page: Page, tmp_path: Path, axe: str) -> None:
    colours.checkpoint(tmp_path / "zoo", tmp_path / "home")
    picture = tmp_path / "red.png"
    cv2.imwrite(str(picture), np.full((60, 80, 3), (20, 60, 240), np.uint8))
    with served(tmp_path / "home", [tmp_path / "zoo"], "--no-auth") as house:
        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{house.url}/#/play/colours")
        labels = page.get_by_label("Labels, with commas between")
        labels.fill("green, red, blue")
        page.locator(".drop input").set_input_files(picture)
        names = page.locator(".list .name")
        expect(names).to_have_text(["red", "green", "blue"])
        labels.fill("blue, green")
        labels.press("Enter")
        expect(names).to_have_text(["green", "blue"])
        expect(page.get_by_role("slider")).to_have_count(0)
        page.evaluate(axe)
        told = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        assert [one["id"] for one in told["violations"] if one["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        python = environment("requests", "requests==2.32.5")
        for api in ("Hugging Face", "YOLO v1", "HUB", "Platform"):
            page.get_by_role("tab", name=api).click()
            program = page.locator(".snippets code").inner_text().replace("photo.jpg", str(picture))
            assert "green" in run(python, program), api
        labels.fill("")
        labels.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("needs to be told what to look for")
