"""The console as people use it, in a real browser, on real models."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.clients.environments import environment
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
    page.locator("input.hidden-input").first.set_input_files(file)


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


def request(house: Served, method: str, path: str, body: object = None, key: str = "") -> urllib.request.Request:
    content = None if body is None else json.dumps(body).encode()
    return urllib.request.Request(house.url + path, content, {"x-api-key": key or "none"}, method=method)


def ask(house: Served, method: str, path: str, body: object = None, key: str = "") -> Any:
    """The JSON answer of one of the house's own routes."""
    with urllib.request.urlopen(request(house, method, path, body, key), timeout=60) as answer:
        return json.load(answer)


def key_id(house: Served, key: str) -> str:
    found: str = ask(house, "GET", "/v1/session", key=key)["key"]["id"]
    return found


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
    slider.fill("0.25")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_label("Overlap").fill("0.95")
    page.wait_for_function("n => document.querySelectorAll('.list li').length > n", arg=some)
    assert len(sent) == 1, "only the server can suppress anew"
    page.get_by_role("tab", name="JSON").click()
    expect(page.locator("pre.json")).to_contain_text('"imageCount": 1')
    expect(page.locator(".spent")).to_contain_text("network")


def test_what_is_drawn_is_of_the_picture_and_the_model_that_are_shown(page: Page, house: Served, photo: Path) -> None:
    look(page, house, photo)
    page.locator(".list li").first.wait_for()
    first = page.locator(".controls select").input_value()
    other = next(name for name in ("yolov8n", "yolo11n") if name != first)
    with page.expect_response(lambda answer: f"/{other}/predict" in answer.url):
        page.locator(".controls select").select_option(other)
    with page.expect_response(lambda answer: f"/{first}/predict" in answer.url):
        page.go_back()
    page.locator(".list li").first.wait_for()
    assert drawn_pixels(page) > 500
    page.route("**/predict", lambda route: route.abort())
    page.locator(".stage-card input[type=file]").set_input_files(photo)
    expect(page.locator(".list li")).to_have_count(0)
    page.wait_for_function("() => !document.querySelector('.result[aria-busy=true]')")
    assert drawn_pixels(page) == 0
    page.unroute("**/predict")
    with page.expect_response(lambda answer: f"/{first}/predict" in answer.url):
        page.locator(".stage-card input[type=file]").set_input_files(photo)


def test_a_model_of_an_odd_name_is_found_by_its_link_and_by_the_programs(page: Page, house: Served) -> None:
    name = 'shop/50% off?#"a"'
    asked: list[str] = []

    def renamed(route: Any) -> None:
        told = route.fetch().json()
        told["models"][0]["name"] = name
        route.fulfill(json=told)

    page.route("**/v1/console/models", renamed)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{house.url}/#/models")
    page.get_by_role("link", name=name).click()
    page.wait_for_function("() => location.hash.startsWith('#/models/shop/50')")
    page.wait_for_timeout(300)
    quoted = "shop/50%25%20off%3F%23%22a%22"
    assert f"{house.url}/v1/console/models/{quoted}" in asked
    page.goto(f"{house.url}/#/play/{quoted}")
    expect(page.locator(".snippets code")).to_contain_text(f"/models/{quoted}")


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


@pytest.mark.parametrize("name", ["rgb.heic", "rgb16.tif", "rgb.jp2"])
def test_pictures_that_the_browser_cannot_draw_are_shown_as_the_server_sees_them(
    page: Page, house: Served, data: Path, name: str
) -> None:
    look(page, house, data / "images" / "formats" / name)
    page.wait_for_function("() => document.querySelector('.stage img')?.naturalWidth === 134")
    expect(page.locator(".list li").first).to_contain_text("suitcase")
    assert drawn_pixels(page) > 500


def test_videos_and_animations_are_looked_at_frame_by_frame(page: Page, house: Served, data: Path) -> None:
    videos = data / "videos"
    look(page, house, videos / "synthetic_12frames_160x120.mp4")
    expect(page.locator(".spent")).to_contain_text("12 frames")
    assert page.evaluate("document.querySelector('.stage video').videoWidth") == 160
    look(page, house, videos / "synthetic_12frames_160x120.gif")
    expect(page.locator(".spent")).to_contain_text("12 frames")
    page.wait_for_function("() => document.querySelector('.stage .picture')?.width === 160")
    look(page, house, videos / "synthetic_12frames_160x120.avi")
    expect(page.get_by_text("This browser cannot show the file")).to_be_visible()
    page.get_by_label("Frame 1 of 12").fill("11")
    expect(page.get_by_label("Frame 12 of 12")).to_be_visible()


def test_what_cannot_be_looked_at_is_refused_in_words_and_what_holds_nothing_is_said_to(
    page: Page, house: Served, data: Path
) -> None:
    bad = data / "images" / "bad"
    look(page, house, bad / "text.jpg")
    expect(page.get_by_role("alert")).to_contain_text("Cannot identify image file")
    expect(page.get_by_text("Drop a photo or video here")).to_be_visible()
    look(page, house, bad / "bomb_15000x15000_1bit.png")
    expect(page.get_by_role("alert")).to_contain_text("at most 64 megapixels")
    look(page, house, data / "videos" / "truncated.mp4")
    expect(page.get_by_role("alert")).to_contain_text("truncated")
    look(page, house, data / "images" / "formats" / "1x1.png")
    expect(page.locator(".timing [role=status]")).to_have_text("Nothing found.")
    expect(page.get_by_role("alert")).to_have_count(0)


def given(page: Page, event: str, file: Path | None) -> None:
    """Drops or pastes a file somewhere on the page, or something that is no file."""
    content = base64.b64encode(file.read_bytes()).decode() if file else ""
    page.evaluate(
        """([kind, content]) => {
          const data = new DataTransfer();
          if (content) data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], "photo.jpg", {type: "image/jpeg"}));
          const options = {bubbles: true, cancelable: true};
          const event = kind === "paste" ? new ClipboardEvent(kind, {...options, clipboardData: data}) : new DragEvent(kind, {...options, dataTransfer: data});
          document.querySelector("footer").dispatchEvent(event);
          if (kind === "drop" && !event.defaultPrevented) throw new Error("the browser would leave the page");
        }""",  # noqa: E501 - a program of another language
        [event, content],
    )


def test_a_photo_may_be_dropped_anywhere_pasted_or_taken_with_the_camera(
    page: Page, house: Served, photo: Path
) -> None:
    page.goto(f"{house.url}/#/play/yolo11n")
    page.locator(".drop").wait_for()
    given(page, "drop", None)
    expect(page.get_by_role("alert")).to_contain_text("That was no file")
    for way in ("drop", "paste"):
        given(page, way, photo)
        expect(page.locator(".list li").first).to_contain_text("donut")
        page.reload()
        page.locator(".drop").wait_for()
    page.get_by_role("button", name="Use camera").click()
    page.get_by_role("button", name="Take photo").click()
    expect(page.locator(".spent")).to_contain_text("answered in")
    expect(page.get_by_role("button", name="Use camera")).to_be_visible()


def test_a_server_that_is_gone_is_told_once_and_found_again(page: Page, house: Served) -> None:
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    page.get_by_role("button", name="Start endpoint").wait_for()
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text("The server does not answer. Trying again until it does …")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("button", name="Start endpoint")).to_be_visible()


def programs(page: Page) -> dict[tuple[str, str], str]:
    """What the copy button puts into the clipboard for every API and language."""
    found = {}
    tabs = page.get_by_role("tablist", name="API").first.get_by_role("tab")
    tabs.first.wait_for()
    apis = list(tabs.all_inner_texts())
    for api in apis:
        page.get_by_role("tab", name=api, exact=True).first.click()
        for language in ("Python", "JavaScript", "cURL"):
            page.get_by_role("tab", name=language).first.click()
            page.locator(".snippets").first.get_by_role("button", name="Copy").click()
            page.locator(".snippets").first.get_by_role("button", name="Copied").wait_for()
            found[api.strip(), language] = page.evaluate("navigator.clipboard.readText()")
    return found


def printed(python: Path, language: str, program: str, folder: Path) -> str:
    """What a copied program prints in a folder with a photo.jpg."""
    command = {
        "Python": [str(python), "-c", program],
        "JavaScript": ["node", "--input-type=module", "--eval", program],
        "cURL": ["bash", "-c", f"{program} --silent"],
    }[language]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_programs_run_as_they_are_copied(page: Page, house: Served, photo: Path, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed here")
    python = environment("requests", "requests==2.32.5")
    shutil.copy(photo, tmp_path / "photo.jpg")
    ask(house, "POST", "/v1/endpoints", {"name": "copied", "model": "yolo11n", "replicas": "1:1"})
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{house.url}/#/play/yolo11n")
    found = {("shared", *names): text for names, text in programs(page).items()}
    assert len(found) == 12
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    endpoint = page.get_by_role("group", name="Endpoint copied")
    expect(endpoint.locator(".state")).to_have_text("ready")
    endpoint.get_by_role("button", name="Metrics, logs and code").click()
    page.get_by_role("article", name="Metrics, logs and code of copied").wait_for()
    found |= {("dedicated", *names): text for names, text in programs(page).items()}
    assert len(found) == 21
    with ThreadPoolExecutor(3) as pool:
        texts = pool.map(lambda names: printed(python, names[-1], found[names], tmp_path), found)
    assert [names for names, text in zip(found, texts, strict=True) if "donut" not in text] == []
    ask(house, "DELETE", "/v1/endpoints/copied")


def test_copying_works_where_the_browser_hides_the_clipboard(browser: Browser, house: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(f"{house.url}/#/models/yolo11n/deploy")
    page.get_by_role("button", name="Copy URL").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    page.get_by_label("Name", exact=True).click()
    page.keyboard.press("Control+V")
    expect(page.get_by_label("Name", exact=True)).to_have_value(house.url)
    context.close()


def test_models_are_loaded_unloaded_added_and_removed(page: Page, house: Served, data: Path) -> None:
    page.goto(f"{house.url}/#/models")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="yolo11n-cls", exact=True))
    row.get_by_role("button", name=re.compile("Load|Unload")).wait_for()
    if row.get_by_role("button", name="Unload yolo11n-cls").count():
        row.get_by_role("button", name="Unload yolo11n-cls").click()
    row.get_by_role("button", name="Load yolo11n-cls", exact=True).click()
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
    page.get_by_label("Name", exact=True).fill("people")
    page.get_by_role("button", name="Start endpoint").click()
    endpoint = page.locator(".endpoint").filter(has_text="people")
    expect(endpoint.locator(".state")).to_have_text("ready", timeout=60_000)
    url = endpoint.locator(".url code").inner_text()
    status, told = post(url, photo)
    assert status == 200
    assert "donut" in {item["name"] for item in told["images"][0]["results"]}
    endpoint.get_by_role("button", name="Metrics, logs and code").click()
    expect(page.locator(".metrics .tiles")).to_contain_text("1request")
    expect(page.locator(".logs")).to_contain_text("200")
    endpoint.get_by_role("button", name="Resize").click()
    page.get_by_role("dialog").get_by_label("Calls an hour").fill("50")
    page.get_by_role("dialog").get_by_role("button", name="Resize").click()
    expect(endpoint).to_contain_text("50 calls an hour")
    endpoint.get_by_role("button", name="Replace model").click()
    page.get_by_role("dialog").get_by_role("combobox").select_option("yolo11n-pose")
    page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("status").get_by_role("link", name="yolo11n-pose").click()
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
        boss = dialog.locator("pre code").inner_text()
        dialog.get_by_role("button", name="I have copied it").click()
        page.get_by_role("button", name="boss", exact=True).click()
        expect(page.locator("input[type=password]")).to_be_focused()
        page.keyboard.type("sac_wrong")
        page.get_by_role("button", name="Use key").click()
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.locator("input[type=password]").fill(boss)
        page.get_by_role("button", name="Use key").click()
        page.get_by_role("button", name="Create key").click()
        dialog.get_by_label("Name").fill("guest")
        dialog.get_by_label("Calls", exact=True).fill("3")
        dialog.get_by_role("button", name="Create").click()
        guest = dialog.locator("pre code").inner_text()
        dialog.get_by_role("button", name="I have copied it").click()
        expect(page.locator("body")).not_to_contain_text(guest)
        assert [post(house.url, photo, guest)[0] for _ in range(4)] == [200, 200, 200, 429]
        guests_may_change_nothing(page, house, guest)
        page.goto(f"{house.url}/#/usage")
        expect(page.locator(".u-legend")).to_contain_text("yolo11n")
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
        ask(house, "DELETE", f"/v1/keys/{key_id(house, boss)}", key=boss)
        page.get_by_role("link", name="Usage").click()
        expect(page.get_by_role("heading", name="This server asks for a key")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("not known here, or it was revoked")


def guests_may_change_nothing(page: Page, house: Served, key: str) -> None:
    """A tab of its own, with a key that may only call models."""
    tab = page.context.new_page()
    tab.goto(f"{house.url}/#/models")
    tab.locator("input[type=password]").fill(key)
    tab.get_by_role("button", name="Use key").click()
    tab.get_by_role("link", name="yolo11n", exact=True).wait_for()
    for button in ("Add a model", "Load", "Unload", "Fetch"):
        expect(tab.get_by_role("button", name=button)).to_have_count(0)
    tab.goto(f"{house.url}/#/models/yolo11n/deploy")
    expect(tab.locator(".limit")).to_contain_text("3 of 3 calls")
    expect(tab.get_by_text("A key with admin rights may start one.")).to_be_visible()
    tab.goto(f"{house.url}/#/keys")
    expect(tab.get_by_text("Yours may not manage keys")).to_be_visible()
    expect(tab.get_by_role("button", name="Create key")).to_have_count(0)
    tab.close()


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
    page.get_by_role("link", name="Models", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(page.get_by_role("table", name="Models")).to_be_visible()
    page.get_by_role("button", name="Add a model").press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_list_of_the_apis_fits_a_phone_and_asks_for_nothing_that_is_not_there(page: Page, house: Served) -> None:
    lost: list[str] = []
    page.on("response", lambda answer: lost.append(answer.url) if answer.status >= 400 else None)
    page.set_viewport_size({"width": 1280, "height": 700})
    page.goto(f"{house.url}/docs")
    address = page.get_by_role("cell", name="/v1/endpoints/{name}/metrics").bounding_box()
    assert address is not None
    assert address["height"] < 50  # in one line
    expect(page.get_by_role("cell", name="is start, stop, resize").first.locator("code").first).to_have_text("action")
    page.set_viewport_size({"width": 320, "height": 700})
    page.get_by_role("heading", name="Hugging Face Inference API").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.wait_for_timeout(300)
    assert lost == []
