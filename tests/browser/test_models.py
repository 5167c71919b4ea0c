"""The pages of models: what they propose, and where they lead."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
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


def test_the_numbers_beside_a_plot_are_seen_whole(page: Page, house: Served) -> None:
    endpoint = {"name": "slow", "model": "yolo11n", "state": "ready", "url": "http://x", "replicas": "0:1"}
    stamp = "2026-01-01T00:%02d:00Z"
    points = [{"timestamp": stamp % minute, "value": 12345} for minute in range(9)]
    told = {
        "timeRange": {"start": stamp % 0, "end": stamp % 9},
        "timeSeries": {"requests": points, "errors": [], "latencyP50": points, "latencyP95": points},
        "summary": {"totalRequests": 9, "errorRate": 0, "p50LatencyMs": 12345, "p95LatencyMs": 12345},
    }
    page.route("**/v1/endpoints", lambda route: route.fulfill(json={"endpoints": [endpoint]}))
    page.route("**/v1/endpoints/slow/metrics?*", lambda route: route.fulfill(json=told))
    page.route("**/v1/endpoints/slow/logs?*", lambda route: route.fulfill(json={"entries": []}))
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    page.get_by_role("button", name="Metrics, logs and code").click()
    plot = page.locator(".plot").filter(has_text="Latency")
    plot.locator(".u-over").wait_for()
    wide = page.evaluate(
        """() => { const pen = document.createElement("canvas").getContext("2d");
        pen.font = "12px system-ui, sans-serif"; return pen.measureText("10,000 ms").width; }"""
    )
    room = plot.evaluate("(plot) => plot.querySelector('.u-over').offsetLeft")
    assert room >= wide + 10


def test_names_of_any_length_stay_on_a_phones_screen(page: Page, house: Served) -> None:
    name = "team/" + "x" * 150
    page.set_viewport_size({"width": 360, "height": 700})

    def renamed(route: Any) -> None:
        told = route.fetch(url=f"{house.url}/v1/console/models/yolo11n").json()
        route.fulfill(json=told | {"name": name, "labels": ["y" * 100], "aliases": [name]})

    day = {
        "day": datetime.now(UTC).date().isoformat(),
        "key": name,
        "key_id": "a",
        "model": name,
        "calls": 1,
        "errors": 0,
    }
    used = {"limit": None, "used": 1, "days": [day, day | {"model": "other"}]}
    page.route("**/v1/console/models/team/*", renamed)
    page.route("**/v1/usage?*", lambda route: route.fulfill(json=used))
    for address, seen in (
        (f"#/models/{name}", ".labels"),
        (f"#/models/{name}/deploy", ".start"),
        ("#/usage", ".u-over"),
    ):
        page.goto(f"{house.url}/{address}")
        page.locator(seen).wait_for(state="attached")
        if page.locator("summary").count():
            page.locator("summary").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == 360, address
        for part in ("h1", ".crumbs", ".labels span", ".u-legend"):
            for one in page.locator(part).all():
                box = one.bounding_box()
                assert box is None or box["x"] + box["width"] <= 360, (address, part)


def test_a_long_name_leaves_days_and_legends_in_one_line(page: Page, house: Served) -> None:
    row = {"day": datetime.now(UTC).date().isoformat(), "key": "robot", "key_id": "a", "calls": 1, "errors": 0}
    days = [row | {"model": "team/" + "long-name-" * 16}, row | {"model": "other"}]
    page.route("**/v1/usage?*", lambda route: route.fulfill(json={"limit": None, "used": 2, "days": days}))
    page.goto(f"{house.url}/#/usage")
    rows = page.get_by_role("table", name="Calls").get_by_role("row")
    short = rows.nth(2).bounding_box()
    assert short is not None
    assert short["height"] < 50
    mark, label = (page.locator(f".u-series:nth-child(2) {part}").bounding_box() for part in (".u-marker", ".u-label"))
    assert mark is not None
    assert label is not None
    assert mark["x"] + mark["width"] < label["x"]  # not above it


@pytest.mark.parametrize("width", [390, 901, 1280])
def test_a_long_name_leaves_room_for_what_can_be_done_with_each_model(page: Page, house: Served, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})

    def renamed(route: Any) -> None:
        told = route.fetch().json()
        told["models"][0]["name"] = "x" * 170
        route.fulfill(json=told)

    page.route("**/v1/console/models", renamed)
    page.goto(f"{house.url}/#/models")
    button = page.get_by_role("button", name=re.compile("(Load|Unload) yolo11n-pose"))
    expect(button).to_be_visible()
    place = button.bounding_box()
    assert place is not None
    assert place["x"] + place["width"] <= width


def test_of_a_model_that_is_not_here_yet_no_number_of_classes_is_told(page: Page, house: Served) -> None:
    page.goto(f"{house.url}/#/models/picodet-s")
    page.locator(".facts").wait_for()
    expect(page.get_by_text("classes")).to_have_count(0)
    page.goto(f"{house.url}/#/models/yolo11n")
    expect(page.get_by_text("80 classes")).to_be_visible()


def test_a_damaged_file_is_shown_with_the_reason_why_it_is_not_served(page: Page, house: Served, models: Path) -> None:
    file = models / "damaged.onnx"
    file.write_bytes(b"half a file")
    try:
        page.goto(f"{house.url}/#/models")
        row = page.get_by_role("table", name="Not served").get_by_role("row").filter(has_text="damaged")
        expect(row).to_contain_text("'damaged.onnx'")
        expect(page.get_by_text("1 that cannot be served")).to_be_visible()
        page.goto(f"{house.url}/#/play")
        expect(page.locator("option", has_text="yolo11n").first).to_be_attached()
        expect(page.locator("option", has_text="damaged")).to_have_count(0)
    finally:
        file.unlink()
    page.goto(f"{house.url}/#/models")
    expect(page.get_by_role("button", name=re.compile("(Load|Unload) yolo11n-pose"))).to_be_visible()
    expect(page.get_by_role("table", name="Not served")).to_have_count(0)


def test_a_model_that_has_failed_says_why(page: Page, house: Served) -> None:
    told = {"state": "failed", "reason": "The graph has an operation that is not known."}

    def one(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | told)

    def listed(route: Any) -> None:
        answer = route.fetch().json()
        answer["models"] = [row | told if row["name"] == "yolo11n" else row for row in answer["models"]]
        route.fulfill(json=answer)

    page.route("**/v1/console/models/yolo11n", one)
    page.route("**/v1/console/models", listed)
    page.goto(f"{house.url}/#/models")
    expect(page.get_by_role("row").filter(has_text="yolo11n ").filter(has_text="not known")).to_have_count(1)
    page.set_viewport_size({"width": 375, "height": 700})
    reason, row = (page.locator(part).bounding_box() for part in ("p.reason", "tr:has(p.reason)"))
    assert reason is not None
    assert row is not None
    assert reason["width"] > row["width"] / 2
    page.get_by_role("link", name="yolo11n", exact=True).click()
    expect(page.locator(".problem")).to_have_text(told["reason"])


def test_the_playground_begins_with_a_model_that_has_not_failed(page: Page, house: Served) -> None:
    def listed(route: Any) -> None:
        answer = route.fetch().json()
        failed = {"name": "a-first", "task": "detect", "fetched": True, "state": "failed"}
        answer["models"] = [failed, *(row for row in answer["models"] if row["name"] != "yolo11n")]
        route.fulfill(json=answer)

    page.route("**/v1/console/models", listed)
    page.goto(f"{house.url}/#/play")
    expect(page.locator(".controls select")).to_have_value("yolo11n-cls")
