"""The page of keys, with keys as a large house has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.clients.houses import Served

pytestmark = pytest.mark.heavy


def key(number: int) -> dict[str, Any]:
    facts = {"id": f"k{number}", "name": f"a key of the department number {number}, with quite a long name indeed"}
    scopes = {"scopes": ["models", "endpoints"], "models": ["yolo*", "picodet-s", "another-*"], "endpoints": ["*"]}
    times = {"created": 1.76e9, "last_used": 1.77e9, "expires": 1.9e9}
    return facts | scopes | times | {"prefix": "sac_12345", "limit": 100000, "window_s": 60}


@pytest.mark.parametrize("width", [390, 720, 901, 1280])
def test_keys_can_be_edited_and_deleted_on_every_screen(page: Page, house: Served, width: int) -> None:
    longest = key(3) | {"name": "x" * 80}
    keys = [*(key(number) for number in range(3)), longest]
    page.route("**/v1/keys", lambda route: route.fulfill(json={"keys": keys}))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{house.url}/#/keys")
    for button in ("Edit", "Delete"):
        found = page.get_by_role("button", name=f"{button} a key of the department number 2")
        expect(found).to_be_visible()
        place = found.bounding_box()
        assert place is not None
        assert place["x"] + place["width"] <= width


def test_one_of_thousands_of_keys_is_found_and_all_are_shown_only_when_asked_for(page: Page, house: Served) -> None:
    page.route("**/v1/keys", lambda route: route.fulfill(json={"keys": [key(number) for number in range(2000)]}))
    page.goto(f"{house.url}/#/keys")
    rows = page.get_by_role("table", name="Keys").locator("tbody tr")
    expect(rows).to_have_count(200)
    expect(page.get_by_text("200 of 2,000 keys are shown.")).to_be_visible()
    page.get_by_role("searchbox", name="Find a key").fill("number 1999")
    expect(page.get_by_role("button", name="Delete a key of the department number 1999")).to_be_visible()
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox", name="Find a key").fill("")
    page.get_by_role("button", name="Show all").click()
    expect(rows).to_have_count(2000)


def test_of_the_usage_of_thousands_of_keys_the_latest_is_shown_and_all_is_summed(page: Page, house: Served) -> None:
    today = datetime.now(UTC).date()
    row = {"key_id": "a", "key": "a robot", "calls": 1, "errors": 0}
    days = [
        row | {"day": (today - timedelta(days=day)).isoformat(), "model": f"model {number % 20}"}
        for day in (1, 0)
        for number in range(1000)
    ]
    page.route("**/v1/usage?*", lambda route: route.fulfill(json={"limit": None, "used": 2000, "days": days}))
    page.goto(f"{house.url}/#/usage")
    rows = page.get_by_role("table", name="Calls").locator("tbody tr")
    expect(rows).to_have_count(200)
    expect(rows.first).to_contain_text(today.isoformat())
    expect(page.get_by_text("200 of 2,000 rows are shown, the latest days first.")).to_be_visible()
    expect(page.locator(".tiles")).to_contain_text("2,000calls in 30 days")
    expect(page.locator(".u-series").last).to_contain_text("others")
    page.get_by_role("button", name="Show all").click()
    expect(rows).to_have_count(2000)


def test_a_key_is_found_by_its_words_and_one_that_is_over_is_told(page: Page, house: Served) -> None:
    past = key(1998) | {"expires": 1.7e9}
    keys = [*(key(number) for number in range(1998)), past, key(1999) | {"name": "the robot at the gate"}]
    page.route("**/v1/keys", lambda route: route.fulfill(json={"keys": keys}))
    page.goto(f"{house.url}/#/keys")
    rows = page.locator("tbody tr")
    page.get_by_label("Find a key").fill("Robot gate")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("the robot at the gate")
    expect(rows.get_by_text("expired")).to_have_count(0)
    page.get_by_label("Find a key").fill("number 1998,")
    expect(rows.get_by_text("expired")).to_be_visible()
    page.get_by_label("Find a key").fill("nobody")
    expect(page.get_by_text("No key is called so.")).to_be_visible()


def test_a_key_that_is_not_known_leaves_the_keyboard_where_it_was(page: Page, house: Served) -> None:
    page.route("**/v1/session", lambda route: route.fulfill(status=401, json={"error": "no"}))
    page.goto(house.url)
    page.get_by_label("Access key").fill("sac_wrong")
    page.get_by_role("button", name="Use key").click()
    expect(page.get_by_role("button", name="Forget it")).to_be_visible()
    expect(page.get_by_role("button", name="Use key")).to_be_focused()


def test_who_is_let_in_goes_on_in_the_page_with_the_keyboard(page: Page, house: Served) -> None:
    page.route("**/v1/session", lambda route: route.fulfill(status=401, json={"error": "no"}))
    page.goto(house.url)
    page.get_by_label("Access key").fill("sac_right")
    page.unroute("**/v1/session")
    page.keyboard.press("Enter")
    expect(page.locator(".drop")).to_be_visible()
    expect(page.locator("main")).to_be_focused()


def test_a_limit_that_is_used_up_says_when_to_come_back(page: Page, house: Served, data: Path) -> None:
    told = {"status": 429, "headers": {"retry-after": "1801"}, "json": {"error": "Rate limit exceeded"}}
    page.route("**/predict", lambda route: route.fulfill(**told))
    page.goto(f"{house.url}/#/play/yolo11n")
    page.locator(".drop input").set_input_files(data / "images" / "formats" / "rgb.jpg")
    expect(page.locator(".problem")).to_have_text("Rate limit exceeded. Try again in 31 minutes.")
