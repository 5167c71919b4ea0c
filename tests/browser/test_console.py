"""The console as people use it, in a real browser, on real models."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.clients.houses import Served, served

pytestmark = pytest.mark.heavy

PAGES = ("#/play", "#/models", "#/models/yolo11n", "#/models/yolo11n/deploy", "#/keys", "#/usage")


@pytest.fixture
def photo(data: Path) -> Path:
    """People, donuts and more."""
    return sorted((data / "images" / "coco").glob("*.jpg"))[2]


def drawn_pixels(page: Page) -> int:
    """How many pixels of the overlay are not empty."""
    count: int = page.evaluate(
        """() => { const c = document.querySelector('.stage canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"""
    )
    return count


def look(page: Page, house: Served, file: Path, model: str = "yolo11n") -> None:
    page.goto(f"{house.url}/#/play/{model}")
    page.locator(".drop input").set_input_files(file)


def post(url: str, file: Path, key: str = "") -> tuple[int, dict[str, Any]]:
    """Status and JSON of a HUB-like call, as a program makes it."""
    edge = "saccade-edge"
    body = b"\r\n".join(
        [
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n'.encode(),
            file.read_bytes(),
            f'--{edge}\r\nContent-Disposition: form-data; name="model"\r\n\r\nyolo11n\r\n--{edge}--\r\n'.encode(),
        ]
    )
    headers = {"content-type": f"multipart/form-data; boundary={edge}", "x-api-key": key or "none"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_dropped_photo_shows_its_objects_and_the_slider_filters_them_at_once(
    page: Page, house: Served, photo: Path
) -> None:
    look(page, house, photo)
    rows = page.locator(".list li")
    expect(rows.first).to_be_visible()
    some = rows.count()
    assert some >= 3
    assert drawn_pixels(page) > 500
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    slider = page.get_by_label("Confidence")
    slider.fill("0.7")
    page.wait_for_function("n => document.querySelectorAll('.list li').length < n", arg=some)
    assert not sent, "re-filtering must not ask the server again"
    page.get_by_role("tab", name="JSON").click()
    expect(page.locator("pre.json")).to_contain_text('"imageCount": 1')
    expect(page.locator(".spent")).to_contain_text("network")


def test_pointing_at_a_row_lights_up_its_object(page: Page, house: Served, photo: Path) -> None:
    look(page, house, photo)
    page.locator(".list li").first.wait_for()
    page.mouse.move(0, 0)
    before = drawn_pixels(page)
    page.locator(".list li button").first.hover()
    expect(page.locator(".list li.active")).to_have_count(1)
    assert drawn_pixels(page) != before


@pytest.mark.parametrize("model", ["yolo11n-seg", "yolo11n-pose", "yolov8n-obb_pothole", "yolo11n-cls"])
def test_every_task_is_drawn(page: Page, house: Served, data: Path, photo: Path, model: str) -> None:
    file = data / "images" / "pothole.jpg" if "pothole" in model else photo
    look(page, house, file, model)
    expect(page.locator(".list li").first).to_be_visible()
    if not model.endswith("cls"):
        assert drawn_pixels(page) > 200


def test_a_video_is_looked_at_frame_by_frame(page: Page, house: Served, data: Path) -> None:
    look(page, house, data / "videos" / "synthetic_12frames_160x120.mp4")
    expect(page.locator(".spent")).to_contain_text("12 frames", timeout=60_000)


def test_a_broken_file_is_refused_in_words(page: Page, house: Served, data: Path) -> None:
    look(page, house, data / "images" / "bad" / "text.jpg")
    expect(page.get_by_role("alert")).to_contain_text("cannot identify image file")


def test_the_snippets_name_this_server_and_the_model(page: Page, house: Served) -> None:
    page.goto(f"{house.url}/#/play/yolo11n-seg")
    code = page.locator(".snippets code")
    for api, path in (
        ("Hugging Face", "/models/yolo11n-seg"),
        ("YOLO v1", "/v1/predict/yolo11n-seg"),
        ("Platform", "/api/models/yolo11n-seg/predict"),
    ):
        page.get_by_role("tab", name=api).click()
        for language in ("Python", "JavaScript", "cURL"):
            page.get_by_role("tab", name=language).click()
            expect(code).to_contain_text(f"{house.url}{path}")
    page.get_by_role("tab", name="HUB").click()
    expect(code).to_contain_text("model=yolo11n-seg")


def test_the_python_snippets_run(page: Page, house: Served, photo: Path, tmp_path: Path) -> None:
    from tests.clients.environments import environment, run

    python = environment("requests", "requests==2.34.2")
    page.goto(f"{house.url}/#/play/yolo11n")
    for api in ("Hugging Face", "YOLO v1", "HUB", "Platform"):
        page.get_by_role("tab", name=api).click()
        page.get_by_role("tab", name="Python").click()
        program = page.locator(".snippets code").inner_text().replace("photo.jpg", str(photo))
        assert "donut" in run(python, program), api


def test_models_are_loaded_unloaded_added_and_removed(page: Page, house: Served, data: Path) -> None:
    page.goto(f"{house.url}/#/models")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="yolo11n-cls", exact=True))
    row.get_by_role("button", name=re.compile("Load|Unload")).wait_for()
    if row.get_by_role("button", name="Unload").count():
        row.get_by_role("button", name="Unload").click()
    row.get_by_role("button", name="Load", exact=True).click()
    expect(row.locator(".state")).to_have_text("warm", timeout=60_000)
    page.get_by_role("button", name="Add a model").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(data / "models" / "yolov8n-obb_pothole.onnx")
    dialog.get_by_label("Name").first.fill("road-damage")
    dialog.get_by_role("button", name="Upload").click()
    added = page.get_by_role("row").filter(has=page.get_by_role("link", name="road-damage"))
    expect(added).to_be_visible()
    added.get_by_role("button", name="Remove road-damage").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(added).to_have_count(0)


def test_an_upload_that_is_no_model_is_refused_in_words(page: Page, house: Served, tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"this is no graph" * 100)
    page.goto(f"{house.url}/#/models")
    page.get_by_role("button", name="Add a model").click()
    page.get_by_role("dialog").locator("input[type=file]").set_input_files(junk)
    page.get_by_role("dialog").get_by_role("button", name="Upload").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    assert "/" not in page.get_by_role("dialog").get_by_role("alert").inner_text()


def test_a_dedicated_endpoint_is_started_called_replaced_stopped_started_and_deleted(
    page: Page, house: Served, photo: Path
) -> None:
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    page.get_by_label("Name").fill("people")
    page.get_by_role("button", name="Start endpoint").click()
    endpoint = page.locator(".endpoint").filter(has_text="people")
    expect(endpoint.locator(".state")).to_have_text("ready", timeout=60_000)
    url = endpoint.locator(".url code").inner_text()
    status, told = post(url, photo)
    assert status == 200
    assert "donut" in {item["name"] for item in told["images"][0]["results"]}
    endpoint.get_by_role("button", name="Metrics, logs and code").click()
    expect(endpoint.locator(".tiles")).to_contain_text("requests")
    expect(endpoint.locator(".logs")).to_contain_text("200")
    endpoint.get_by_role("button", name="Replace model").click()
    page.get_by_role("dialog").get_by_role("combobox").select_option("yolo11n-pose")
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.goto(f"{house.url}/#/models/yolo11n-pose/deploy")
    expect(endpoint.locator(".state")).to_have_text("ready", timeout=60_000)
    assert "keypoints" in post(url, photo)[1]["images"][0]["results"][0]
    endpoint.get_by_role("button", name="Stop endpoint").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(endpoint.locator(".state")).to_have_text("stopped", timeout=60_000)
    status, told = post(url, photo)
    assert status == 503
    assert "Service Unavailable" in told["error"]
    endpoint.get_by_role("button", name="Start endpoint").click()
    expect(endpoint.locator(".state")).to_have_text("ready", timeout=60_000)
    assert post(url, photo)[0] == 200
    endpoint.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(endpoint).to_have_count(0)
    assert post(url, photo)[0] == 404


def test_keys_are_made_shown_once_limited_used_up_and_deleted_after_a_question(
    page: Page, models: Path, photo: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "home", [models]) as house:
        page.goto(f"{house.url}/#/keys")
        page.get_by_role("button", name="Create key").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("boss")
        expect(dialog.get_by_label("change everything")).to_be_checked()
        dialog.get_by_role("button", name="Create").click()
        boss = dialog.locator("code").inner_text()
        dialog.get_by_role("button", name="I have copied it").click()
        page.get_by_role("button", name="boss", exact=True).click()
        page.locator("input[type=password]").fill("sac_wrong")
        page.get_by_role("button", name="Use key").click()
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.locator("input[type=password]").fill(boss)
        page.get_by_role("button", name="Use key").click()
        page.get_by_role("button", name="Create key").click()
        dialog.get_by_label("Name").fill("guest")
        dialog.get_by_label("Calls an hour").fill("3")
        dialog.get_by_role("button", name="Create").click()
        guest = dialog.locator("code").inner_text()
        dialog.get_by_role("button", name="I have copied it").click()
        expect(page.locator("body")).not_to_contain_text(guest)
        assert [post(house.url, photo, guest)[0] for _ in range(4)] == [200, 200, 200, 429]
        page.goto(f"{house.url}/#/usage")
        page.get_by_role("tab", name="By key").click()
        expect(page.get_by_role("region", name="Calls")).to_contain_text("guest")
        page.goto(f"{house.url}/#/keys")
        page.get_by_role("button", name="Edit guest").click()
        dialog.get_by_label("Name").fill("visitor")
        dialog.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Delete visitor").click()
        expect(dialog).to_contain_text("Are you sure you want to delete this access key?")
        dialog.get_by_role("button", name="Delete").click()
        expect(page.get_by_role("button", name="Delete visitor")).to_have_count(0)
        assert post(house.url, photo, guest)[0] == 401


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_have_no_serious_accessibility_findings_and_fit_the_screen(
    browser: Browser, house: Served, axe: str, photo: Path, theme: str, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    found: list[str] = []
    for address in PAGES:
        page.goto(f"{house.url}/{address}")
        page.locator("main :is(h1, .drop, .result)").first.wait_for()
        if address == "#/play":
            page.locator(".drop input").set_input_files(photo)
            page.locator(".list li").first.wait_for()
        page.wait_for_timeout(400)
        page.evaluate(axe)
        told = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        found += [
            f"{address}: {one['id']} at {one['nodes'][0]['target']} {one['nodes'][0].get('failureSummary', '')[:200]}"
            for one in told["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{address}: {wide} pixels wide on a screen of {width}")
    context.close()
    assert not found, "\n".join(found)


def test_the_console_can_be_used_with_the_keyboard_alone(page: Page, house: Served, photo: Path) -> None:
    page.goto(f"{house.url}/#/play/yolo11n")
    page.locator(".drop").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.get_by_role("link", name="Models", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    page.get_by_role("button", name="Add a model").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
