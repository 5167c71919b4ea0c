"""The documentation: its generated parts are up to date, its links lead somewhere, and the README's lines work."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from saccade.cli import cli
from saccade.dialects.arguments import ADDRESSES, ALIASES, FILES, RANGES
from saccade.stores.sidecar import Sidecar

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.append(ROOT / "benchmarks/README.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ADDRESS = "http://127.0.0.1:8000"


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in one language."""
    return [code for kind, code in BLOCK.findall(page.read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = BLOCK.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [(), ("serve",), ("predict",), ("keys", "create"), ("endpoints", "start")])
def test_the_page_of_commands_shows_what_help_prints(words: tuple[str, ...]) -> None:
    wide = {"terminal_width": 100, "max_content_width": 100}
    told = CliRunner().invoke(cli, [*words, "--help"], prog_name="saccade", **wide)
    assert told.stdout in blocks(ROOT / "docs/cli.md", "text")


def test_the_index_leads_to_every_page() -> None:
    named = set(LINK.findall((ROOT / "docs/index.md").read_text()))
    assert named >= {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_the_page_on_installing_names_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"`saccade\[([\w-]+)\]`", (ROOT / "docs/install.md").read_text())
    assert sorted(named) == sorted(extras)


def test_the_sidecar_in_the_pages_can_be_read_and_has_every_fact_that_people_write() -> None:
    (code,) = blocks(ROOT / "docs/models.md", "toml")
    sidecar = msgspec.toml.decode(code, type=Sidecar)
    assert (sidecar.imgsz, sidecar.keypoint_shape) == ((640, 640), (17, 3))
    assert set(tomllib.loads(code)) == set(Sidecar.__struct_fields__) - {"source", "revision", "sha256"}


def test_the_table_of_the_ultralytics_arguments_is_what_the_dialects_read() -> None:
    text = (ROOT / "docs/ultralytics.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): (re.findall(r"`(\w+)`", row[1]), row[3]) for row in cells if len(row) == 4}
    assert told.keys() == {*ALIASES, "decimals", "vid_stride", "bits", "file", "source"}
    for name, (others, takes) in told.items():
        least, most = RANGES.get(name, (0, 0))
        assert name not in RANGES or name == "bits" or takes.startswith(f"{least:g} to {most:g}"), name
        assert others == [one for one in {**ALIASES, "file": FILES, "source": ADDRESSES}.get(name, ()) if one != name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if link.startswith(("http:", "https:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_benchmark_that_is_listed_is_there_and_says_what_it_measures() -> None:
    listed = re.findall(r"`python (?:-m )?(benchmarks\S+?)`", (ROOT / "benchmarks/README.md").read_text())
    assert len(listed) > 10
    for name in listed:
        path = ROOT / (name if name.endswith(".py") else name.replace(".", "/") + ".py")
        assert path.read_text().startswith('"""'), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_saccade_command_in_the_pages_has_the_options_that_are_typed(page: Path) -> None:
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["saccade"] and len(words) > 1:
                inner = words[1:3] if words[1] in ("keys", "endpoints") else words[1:2]
                told = CliRunner().invoke(cli, [*inner, "--help-all" if inner[0] in ("serve", "deploy") else "--help"])
                assert told.exit_code == 0, line
                options = {word.split("=")[0] for word in words if word.startswith("--")}
                assert options <= set(re.findall(r"--[\w-]+", told.output)), line


def test_the_line_that_sends_json_takes_a_photo_of_usual_size(tmp_path: Path) -> None:
    photo = bytes(range(256)) * 4096
    (tmp_path / "photo.jpg").write_bytes(photo)
    (lines,) = (code for code in blocks(ROOT / "docs/huggingface.md", "sh") if "inputs" in code)
    body = json.loads(shell('curl() { [ "${@: -1}" != "@-" ] || cat; }\n' + lines, tmp_path))
    assert base64.b64decode(body["inputs"]) == photo
    assert body["parameters"]["candidate_labels"] == ["cat", "dog"]


# The README's lines, as they stand, against a real server: only the address, the key and the photo are put in.


@pytest.fixture(scope="module")
def address(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the models of the README, fetched by it."""
    from tests.clients.houses import served

    with served(tmp_path_factory.mktemp("home"), [], "--preload", "picodet-s", "--preload", "yolo11n") as house:
        yield house.url


@pytest.fixture
def place(data: Path, tmp_path: Path) -> Path:
    """A folder with photo.jpg: donuts and people."""
    shutil.copyfile(data / "images/coco/000000034417.jpg", tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.heavy
def test_the_readmes_curl_lines_find_the_objects_over_the_network(address: str, place: Path) -> None:
    lines = [
        line
        for code in blocks(ROOT / "README.md", "sh")
        for line in re.split(r"\n(?!\s)", code.replace("\\\n", " "))
        if line.strip().startswith("curl")
    ]
    assert len(lines) == 3
    for line in lines:
        done = shell(line.replace(ADDRESS, address), place)
        assert {"donut", "person"} <= set(re.findall(r'"(?:label|name)":\s*"(\w+)"', done)), line


@pytest.mark.heavy
def test_the_readmes_python_finds_the_objects_over_the_network(address: str, place: Path) -> None:
    from tests.clients.environments import environment

    first, second = blocks(ROOT / "README.md", "python")
    python = environment("huggingface-hub-2.4.0", "huggingface_hub==2.4.0", "pillow", "requests")
    shown = "\nimport json; print(json.dumps([x['label'] for x in {}]))"
    for code, variable in ((first, "output"), (second, "boxes")):
        done = subprocess.run(
            [python, "-c", code.replace(ADDRESS, address) + shown.format(variable)],
            cwd=place,
            capture_output=True,
            text=True,
            env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert {"donut", "person"} <= set(json.loads(done.stdout))


@pytest.mark.heavy
def test_the_readmes_javascript_finds_the_objects_over_the_network(address: str, place: Path) -> None:
    from tests.clients.environments import node_folder, run_node

    (code,) = blocks(ROOT / "README.md", "js")
    home = node_folder("huggingface-inference-4.13.30", "@huggingface/inference@4.13.30")
    code = code.replace(ADDRESS, address).replace("photo.jpg", str(place / "photo.jpg"))
    done = run_node(home, code + "\nconsole.log(JSON.stringify(boxes.map((box) => box.label)));")
    assert {"donut", "person"} <= set(json.loads(done))


@pytest.mark.heavy
def test_the_readmes_saccade_predict_finds_and_draws_over_the_network(place: Path) -> None:
    (line,) = (
        line
        for code in blocks(ROOT / "README.md", "sh")
        for line in code.splitlines()
        if line.startswith("saccade predict")
    )
    done = shell(line, place, SACCADE_HOME=str(place / "home"))
    assert "donut" in done
    assert (place / "out" / "photo.jpg").stat().st_size > 1000


def shell(line: str, folder: Path, **variables: str) -> str:
    """What a line prints in a shell; a failure fails the test with its own words."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "NO_PROXY": "*", "no_proxy": "*", **variables}
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, env=environ, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_licences_of_others_files_travel_with_them() -> None:
    vendor = ROOT / "src" / "saccade" / "server" / "static" / "vendor"
    told = (vendor / "LICENSES.txt").read_text()
    assert all(word in told for word in ("Jason Miller", "Leon Sorokin", "Permission is hereby granted"))
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert str((vendor / "LICENSES.txt").relative_to(ROOT)) in given["license-files"]
