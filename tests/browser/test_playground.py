"""What the playground shows of a picture, and what it does when something goes wrong."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Page, expect
from tests.clients.houses import Served

pytestmark = pytest.mark.heavy

ANOTHER = ".stage-card input[type=file]"


@pytest.fixture
def photo(data: Path) -> Path:
    """People, donuts and more."""
    return sorted((data / "images" / "coco").glob("*.jpg"))[2]


def look(page: Page, house: Served, file: Path, model: str = "yolo11n") -> None:
    page.goto(f"{house.url}/#/play/{model}")
    page.locator(".drop input").set_input_files(file)
    page.locator(".spent").wait_for()


def test_a_turned_picture_is_shown_upright_also_when_it_is_not_the_first(page: Page, house: Served, data: Path) -> None:
    formats = data / "images" / "formats"
    look(page, house, formats / "rgb.jpg")
    for _ in range(2):
        page.locator(ANOTHER).set_input_files(formats / "exif_orientation_6.webp")
        page.wait_for_function("() => document.querySelector('.stage img')?.naturalWidth === 134")
        with page.expect_response(lambda answer: answer.url.endswith("/predict")):
            page.locator(ANOTHER).set_input_files(formats / "rgb.png")
        page.locator(".list li").first.wait_for()


def test_a_webp_that_stands_on_its_head_is_shown_upright(page: Page, house: Served, data: Path, tmp_path: Path) -> None:
    picture, exif = Image.open(data / "images" / "formats" / "rgb.png").convert("RGB"), Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    picture.rotate(180).save(tmp_path / "turned.webp", exif=exif)
    look(page, house, tmp_path / "turned.webp")
    page.wait_for_function("() => document.querySelector('.stage img')?.complete")
    page.wait_for_function(
        """() => { const pen = document.createElement("canvas").getContext("2d");
        pen.drawImage(document.querySelector(".stage img"), 0, 0, 2, 2);
        const [top, bottom] = [0, 1].map((y) => pen.getImageData(0, y, 1, 1).data[0]);
        return top > bottom + 40; }"""  # the floor is dark
    )


def semantic(height: int, width: int) -> dict[str, Any]:
    """An answer as of a model that gives each pixel a class: the left quarter is sky, the rest is road."""
    classes = np.zeros((height, width), np.uint8)
    classes[:, : width // 4] = 2
    data = base64.b64encode(cv2.imencode(".png", classes)[1].tobytes()).decode()
    image = {
        "results": [
            {"name": "sky", "class": 2, "pixel_ratio": 0.25},
            {"name": "road", "class": 0, "pixel_ratio": 0.75},
        ],
        "shape": [height, width],
        "speed": {"preprocess": 1, "inference": 1, "postprocess": 1},
        "semantic_mask": {"shape": [height, width], "encoding": "png", "data": data},
    }
    return {"images": [image], "metadata": {"imageCount": 1}}


def test_classes_of_pixels_are_drawn_and_listed_with_their_shares(page: Page, house: Served, photo: Path) -> None:
    width, height = Image.open(photo).size
    page.route("**/predict", lambda route: route.fulfill(json=semantic(height, width)))
    look(page, house, photo)
    expect(page.locator(".list li")).to_have_text(["road75%", "sky25%"])
    expect(page.locator(".timing [role=status]")).to_have_text("2 classes, most of it \u2068road\u2069 (75%).")
    expect(page.get_by_label("Confidence")).to_be_disabled()
    drawn = page.locator("canvas.classes")
    page.wait_for_function("() => document.querySelector('canvas.classes')?.width > 300")
    corner, far = page.evaluate(
        """() => { const c = document.querySelector('canvas.classes');
        const at = (x) => [...c.getContext('2d').getImageData(x, 9, 1, 1).data];
        return [at(9), at(c.width - 9)]; }"""
    )
    assert corner != far
    assert 0 not in (corner[3], far[3])
    place = drawn.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 20, place["y"] + 20)
    expect(page.locator(".list li.active")).to_have_text("sky25%")


def test_a_depth_map_is_shown_with_the_range_of_its_values(page: Page, house: Served, photo: Path) -> None:
    shape = list(Image.open(photo).size[::-1])
    data = base64.b64encode(cv2.imencode(".png", np.full(shape, 99, np.uint8))[1].tobytes()).decode()
    depth = {"shape": shape, "encoding": "png", "data": data, "min": 0.70312, "max": 9.99, "bits": 8}
    image = {"shape": shape, "speed": {"preprocess": 1, "inference": 1, "postprocess": 1}, "depth": depth}
    page.route("**/predict", lambda route: route.fulfill(json={"images": [image], "metadata": {"imageCount": 1}}))
    look(page, house, photo)
    said = "Depth map: 0.703 to 9.99 (white), as the model measures."
    expect(page.locator(".timing [role=status]")).to_have_text(said)
    expect(page.locator(".stage img")).to_have_attribute("src", f"data:image/png;base64,{data}")


def detected(*names: str) -> dict[str, Any]:
    """An answer with one box of each name."""
    results = [
        {
            "name": name,
            "class": at,
            "confidence": 0.9 - at / 1000,
            "box": {"x1": 10, "y1": 10 + 4 * at, "x2": 90, "y2": 40},
        }
        for at, name in enumerate(names)
    ]
    speed = {"preprocess": 1, "inference": 1, "postprocess": 1}
    return {"images": [{"results": results, "shape": [480, 640], "speed": speed}], "metadata": {"imageCount": 1}}


def test_names_from_right_to_left_leave_the_numbers_beside_them_in_their_places(
    page: Page, house: Served, photo: Path
) -> None:
    page.add_init_script(
        "window.drawn = []; const fill = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (text, ...rest)"
        " { drawn.push(text); fill.call(this, text, ...rest); };"
    )
    names = ("شخص", "شخص", "حافلة", "حافلة", "حافلة")
    page.route("**/predict", lambda route: route.fulfill(json=detected(*names)))
    look(page, house, photo)
    said = page.locator(".timing [role=status]")
    expect(said).to_have_text("2 × \u2068شخص\u2069, 3 × \u2068حافلة\u2069")
    places = page.evaluate(
        """() => { const text = document.querySelector(".timing [role=status]").firstChild;
        return ["2 ×", "شخص", "3 ×", "حافلة"].map((word) => { const range = document.createRange();
        const start = text.data.indexOf(word); range.setStart(text, start); range.setEnd(text, start + word.length);
        return range.getBoundingClientRect().left; }); }"""
    )
    assert places == sorted(places)
    assert "\u2068شخص\u2069 90%" in page.evaluate("drawn")


def test_of_many_classes_the_first_are_named_and_the_others_counted(page: Page, house: Served, photo: Path) -> None:
    page.route("**/predict", lambda route: route.fulfill(json=detected(*(f"thing {at}" for at in range(9)))))
    look(page, house, photo)
    expect(page.locator(".timing [role=status]")).to_contain_text("thing 7\u2069 and 1 other class")
    expect(page.locator(".list li")).to_have_count(9)
    buttons = page.locator(".timing .button").bounding_box()
    assert buttons is not None
    assert buttons["height"] < 50  # its words stay in one line


def test_the_text_of_every_label_can_be_read_on_its_colour(page: Page, house: Served) -> None:
    page.goto(f"{house.url}/#/play/yolo11n")
    least = page.evaluate(
        """async () => { const { colour, ink } = await import("/static/js/draw.js");
        const pen = new OffscreenCanvas(1, 1).getContext("2d");
        const light = (fill) => { pen.fillStyle = fill; pen.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
                .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        return Math.min(...Array.from({ length: 500 }, (_, id) => { const [a, b] = [light(colour(id)), light(ink(id))];
            return Math.max(a, b) / Math.min(a, b); })); }"""
    )
    assert least >= 4.5


def test_a_model_that_is_here_comes_before_one_that_must_be_fetched(page: Page, house: Served) -> None:
    def starter(route: Any) -> None:
        route.fulfill(json=route.fetch().json() | {"default_model": "picodet-s"})

    page.route("**/v1/session", starter)
    page.goto(f"{house.url}/#/play")
    expect(page.locator(".controls option", has_text="picodet-s · detect (will be fetched)")).to_have_count(1)
    expect(page.locator(".controls select")).to_have_value("yolo11n")
    page.goto(f"{house.url}/#/play/picodet-s")
    expect(page.locator(".controls select")).to_have_value("picodet-s")


def test_what_failed_is_tried_again_at_a_click(page: Page, house: Served, data: Path, photo: Path) -> None:
    look(page, house, photo)
    for file in (photo, data / "images" / "formats" / "rgb.heic"):
        page.route("**/predict", lambda route: route.abort())
        page.locator(ANOTHER).set_input_files(file)
        expect(page.locator(".timing [role=status]")).to_have_text("Not looked at.")
        page.unroute("**/predict")
        page.get_by_role("button", name="Try again").click()
        page.locator(".list li").first.wait_for()
        expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.locator(ANOTHER).set_input_files(data / "images" / "bad" / "truncated_half.jpg")
    expect(page.locator(".problem")).to_contain_text("truncated")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_the_time_of_a_model_that_came_into_memory_is_told_as_waiting(page: Page, house: Served, photo: Path) -> None:
    look(page, house, photo, "yolo11n-cls")
    expect(page.locator(".spent .key-wait")).to_be_visible()
    spent, waited = (
        float(re.findall(r"[\d.]+", page.locator(".spent").get_by_text(name).inner_text())[0])
        for name in ("answered in", "wait")
    )
    assert waited > spent / 4


def test_a_copied_curl_says_what_the_name_and_the_labels_say_and_runs_nothing_in_them(
    page: Page, house: Served, tmp_path: Path
) -> None:
    page.goto(house.url)
    name, labels = 'a $(touch ran) `touch ran` "b"', '<red>; @home, 5" disk'
    text = page.evaluate(
        """async ([name, labels]) => (await import("/static/js/snippets.js"))
        .program("HUB", "cURL", name, location.origin, false, labels)""",
        [name, labels],
    )
    shown = "curl() { printf '%s\\n' \"$@\"; }\n" + text
    done = subprocess.run(["bash", "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[words.index(f"model={name}") - 1] == "--form-string"
    assert words[words.index(f"candidate_labels={labels}") - 1] == "--form-string"
    assert words[words.index("file=@photo.jpg") - 1] == "-F"
    assert list(tmp_path.iterdir()) == []


HALF = """() => {
  const real = window.fetch;
  const line = (n) => JSON.stringify({shape: [120, 160], speed: {preprocess: 1, inference: 1, postprocess: 1},
    results: [{name: `frame ${n}`, class: 0, confidence: 0.9, box: {x1: 10, y1: 10, x2: 50, y2: 50}}]}) + "\\n";
  window.fetch = (url, options) => {
    if (!String(url).endsWith("/predict")) return real(url, options);
    const told = new TextEncoder();
    return Promise.resolve(new Response(new ReadableStream({
      start(stream) {
        for (let n = 0; n < 5; n++) stream.enqueue(told.encode(line(n)));
        window.finish = () => {
          for (let n = 5; n < 12; n++) stream.enqueue(told.encode(line(n)));
          stream.enqueue(told.encode('{"metadata": {"imageCount": 12}}\\n'));
          stream.close();
        };
        window.leave = () => stream.close();
        window.cut = () => stream.error(new TypeError("network error"));
        options.signal.addEventListener("abort", () => stream.error(options.signal.reason));
      },
    })));
  };
}"""
"""Answers to a video of 12 frames: five at once, the others when the test says so."""


def test_no_frame_of_a_video_bears_what_was_found_in_another(page: Page, house: Served, data: Path) -> None:
    page.add_init_script(f"({HALF})()")
    look(page, house, data / "videos" / "synthetic_12frames_160x120.mp4")
    expect(page.locator(".list li").first).to_contain_text("frame")
    page.evaluate(
        "() => { const film = document.querySelector('video'); film.pause(); film.currentTime = film.duration * 0.87; }"
    )
    expect(page.locator(".list li")).to_have_count(0)
    assert page.locator(".timing [role=status]").inner_text() == "Looking … 5 frames"
    page.evaluate("() => window.finish()")
    expect(page.locator(".list li")).to_contain_text("frame 10")
    page.locator(ANOTHER).set_input_files(data / "videos" / "synthetic_12frames_160x120.gif")
    page.get_by_text("frame 4", exact=True).wait_for()
    expect(page.locator(".list li")).to_have_count(0)
    page.evaluate("() => window.finish()")
    expect(page.locator(".list li")).to_contain_text("frame 11")


def test_who_waits_for_a_model_that_is_being_loaded_is_told(page: Page, house: Served, photo: Path) -> None:
    state, held = "loading", list[Any]()

    def fact(route: Any) -> None:
        route.fulfill(json={"name": "yolo11n", "state": state})

    page.route("**/v1/console/models/yolo11n", fact)
    page.route("**/predict", lambda route: held.append(route))
    page.goto(f"{house.url}/#/play/yolo11n")
    page.locator(".drop input").set_input_files(photo)
    status = page.locator(".timing [role=status]")
    expect(status).to_have_text("Loading the model …")
    state = "warm"
    expect(status).to_have_text("Looking …")
    held[0].continue_()
    page.locator(".list li").first.wait_for()


@pytest.mark.parametrize("way", ["leave", "cut"])
def test_an_answer_that_breaks_off_is_told_and_asked_for_again_at_a_click(
    page: Page, house: Served, data: Path, way: str
) -> None:
    page.add_init_script(f"({HALF})()")
    look(page, house, data / "videos" / "synthetic_12frames_160x120.avi")  # which the browser cannot show
    expect(page.locator(".list li").first).to_contain_text("frame")
    page.evaluate(f"() => window.{way}()")
    expect(page.locator(".problem")).to_have_text("The answer broke off before its end. Try again.")
    expect(page.get_by_text("The server does not answer")).to_have_count(0)
    page.get_by_role("button", name="Try again").click()
    page.evaluate("() => window.finish()")
    expect(page.locator(".spent")).to_contain_text("12 frames")
    expect(page.locator(".problem")).to_have_count(0)


def test_a_look_at_a_long_video_is_stopped_at_a_click_and_keeps_what_was_found(
    page: Page, house: Served, data: Path
) -> None:
    page.add_init_script(f"({HALF})()")
    look(page, house, data / "videos" / "synthetic_12frames_160x120.mp4")
    status = page.locator(".timing [role=status]")
    expect(status).to_have_text("Looking … 5 frames")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(status).to_have_text("Stopped after 5 frames.")
    expect(page.locator(".problem")).to_have_count(0)
    page.evaluate(
        "() => { const film = document.querySelector('video'); film.pause(); film.currentTime = film.duration * 0.87; }"
    )
    expect(page.locator(".list li")).to_have_count(0)  # of a frame that nobody has looked at
    page.get_by_role("button", name="Try again").click()
    page.evaluate("() => window.finish()")
    expect(page.locator(".list li")).to_contain_text("frame 10")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)


COUNTED = """() => {
  window.kept = new Set();
  const [make, drop] = [URL.createObjectURL, URL.revokeObjectURL];
  URL.createObjectURL = (thing) => { const url = make(thing); kept.add(url); return url; };
  URL.revokeObjectURL = (url) => { kept.delete(url); drop(url); };
}"""


def test_pictures_are_let_go_when_others_come_and_when_the_page_is_left(page: Page, house: Served, data: Path) -> None:
    page.add_init_script(f"({COUNTED})()")
    formats = data / "images" / "formats"
    look(page, house, formats / "rgb.heic")
    for name in ("rgb.jpg", "rgb.heic"):
        page.locator(ANOTHER).set_input_files(formats / name)
        page.wait_for_function("() => document.querySelector('.stage img')?.naturalWidth === 134")
    page.wait_for_function("() => kept.size === 2")  # the file, and the server's view of it
    page.get_by_role("link", name="Models", exact=True).click()
    page.wait_for_function("() => kept.size === 0")


def test_of_several_files_the_first_is_looked_at_and_the_page_says_so(page: Page, house: Served, photo: Path) -> None:
    page.goto(f"{house.url}/#/play/yolo11n")
    page.locator(".drop").wait_for()
    content = base64.b64encode(photo.read_bytes()).decode()
    page.evaluate(
        """(content) => {
          const dataTransfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
          for (const name of ["a.jpg", "b.jpg"]) dataTransfer.items.add(new File([bytes], name, {type: "image/jpeg"}));
          document.body.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer}));
        }""",
        content,
    )
    expect(page.get_by_text("One at a time: this is the first of 2 files.")).to_be_visible()
    page.locator(ANOTHER).set_input_files(photo)
    page.locator(".list li").first.wait_for()
    expect(page.get_by_text("One at a time")).to_have_count(0)


def test_who_comes_back_finds_the_photo_as_it_was_left_and_nothing_is_asked_anew(
    page: Page, house: Served, photo: Path
) -> None:
    look(page, house, photo, "yolo11n-seg")
    page.get_by_label("Confidence").fill("0.6")
    rows = page.locator(".list li")
    shown = rows.all_text_contents()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    for way in ("link", "back"):
        page.get_by_role("link", name="Models", exact=True).click()
        page.get_by_role("heading", name="Models").wait_for()
        if way == "link":
            page.get_by_role("link", name="Playground").click()
        else:
            page.go_back()
        expect(rows).to_have_text(shown)
        expect(page.locator(".controls select")).to_have_value("yolo11n-seg")
        expect(page.get_by_label("Confidence")).to_have_value("0.6")
        page.wait_for_function("() => document.querySelector('.stage img')?.naturalWidth > 0")
    assert not sent
    page.goto(f"{house.url}/#/models/yolo11n")
    page.get_by_role("link", name="Try it in the playground").click()
    page.locator(".list li").first.wait_for()
    assert [url.rpartition("/api/")[2] for url in sent] == ["models/yolo11n/predict"]
    page.goto(f"{house.url}/#/models")
    page.evaluate("() => sessionStorage.setItem('saccade-key', 'another')")
    page.goto(f"{house.url}/#/play")
    expect(page.get_by_text("Drop a photo or video here")).to_be_visible()


def test_of_a_file_that_is_gone_since_it_was_chosen_the_page_says_so(
    page: Page, house: Served, photo: Path, tmp_path: Path
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo.read_bytes())
    look(page, house, file)
    file.unlink()
    page.get_by_label("Overlap").fill("0.9")
    expect(page.locator(".problem")).to_contain_text("The file was changed or removed since it was chosen.")
    expect(page.get_by_text("The server does not answer")).to_have_count(0)
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
