"""The pages of models: what they propose, and where they lead."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.clients.houses import Served

pytestmark = pytest.mark.heavy


def test_an_uploaded_file_of_any_name_becomes_a_model(page: Page, house: Served, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "_best (1) ü.onnx"
    shutil.copy(data / "models" / "yolox_nano.onnx", file)
    page.goto(f"{house.url}/#/models")
    page.get_by_role("button", name="Add a model").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(file)
    expect(dialog.get_by_label("Name").first).to_have_attribute("placeholder", "best-1")
    dialog.get_by_role("button", name="Upload").click()
    page.get_by_role("button", name="Remove best-1").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("link", name="best-1")).to_have_count(0)


@pytest.mark.parametrize(("name", "proposed"), [("模型", "endpoint"), ("a" * 150, "a" * 100), ("A b/C_(1)", "a-b-c-1")])
def test_an_endpoint_of_any_model_is_proposed_a_name_that_it_may_have(
    page: Page, house: Served, name: str, proposed: str
) -> None:
    def renamed(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | {"name": name})

    page.route("**/v1/console/models/yolo11n", renamed)
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("placeholder", proposed)


def test_a_models_page_bears_its_name_and_takes_the_focus_as_every_page_does(page: Page, house: Served) -> None:
    page.goto(f"{house.url}/#/models")
    page.get_by_role("link", name="yolo11n", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("yolo11n · saccade")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("tab", name="About").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Deploy")).to_be_focused()
    expect(page.get_by_role("button", name="Start endpoint")).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page).to_have_title("Models · saccade")
    expect(page.locator("main")).to_be_focused()
