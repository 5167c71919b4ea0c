"""The house's own law: imports go only downwards, and an optional library is imported only in its own file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "saccade"

FLOORS: dict[str, int] = {
    "__init__": 1,
    "errors": 1,
    "results": 1,
    "meter": 1,
    "kin": 1,
    "drafts": 1,
    "ops": 1,
    "card": 2,
    "call": 2,
    "media": 2,
    "tracking": 2,
    "discover": 2,
    "imageprocessor": 2,
    "lexicon": 2,
    "offline": 2,
    "tokenizers": 2,
    "families": 3,
    "runtimes": 3,
    "stores": 3,
    "dialects": 3,
    "model": 4,
    "library": 4,
    "verify": 4,
    "convert": 4,
    "engine": 5,
    "endpoints": 6,
    "server": 7,
    "cli": 8,
    "__main__": 8,
}
WINGS = {"families", "runtimes", "stores", "dialects"}

OPTIONAL: dict[str, set[str]] = {
    "onnxruntime": {"runtimes/onnxruntime.py"},
    "huggingface_hub": {"stores/hub.py", "offline.py"},
    "ray": {"endpoints/ray.py"},
    "tokenizers": {"tokenizers.py"},
}
"""Each optional library and the files that may name it; torch, transformers and redis are checked by file name."""

BY_NAME = ("torch", "transformers", "redis", "psycopg", "safetensors")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports, also inside functions."""
    package = ["saccade", *path.relative_to(SOURCE).with_suffix("").parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def room(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


def test_the_page_for_contributors_names_every_room_on_its_floor() -> None:
    page = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    named = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert named == {room: floor for room, floor in FLOORS.items() if not room.startswith("__")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_only_downwards_and_wings_never_meet(path: Path) -> None:
    here = path.relative_to(SOURCE).with_suffix("").parts[0]
    assert here in FLOORS, f"{here} has no floor: give it one in this test and in CONTRIBUTING.md"
    for name in imports(path):
        if not name.startswith("saccade"):
            continue
        there = room(name)
        assert FLOORS[there] <= FLOORS[here], f"{here} (floor {FLOORS[here]}) imports {name} (floor {FLOORS[there]})"
        if here in WINGS and there in WINGS:
            assert here == there, f"the wing {here} imports the wing {there} ({name})"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_an_optional_library_is_imported_only_in_the_file_that_bears_its_name(path: Path) -> None:
    relative = path.relative_to(SOURCE).as_posix()
    for name in imports(path):
        library = name.split(".")[0]
        if library in OPTIONAL:
            assert relative in OPTIONAL[library], f"{relative} imports {library}"
        if library in BY_NAME:
            assert library in relative or "transformers" in relative, f"{relative} imports {library}"


def test_settings_and_the_environment_are_read_only_by_the_server_and_the_command_line() -> None:
    for path in modules():
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if FLOORS.get(here, 0) < FLOORS["server"]:
            text = path.read_text()
            assert "os.environ" not in text, f"{path.relative_to(SOURCE)} reads the environment"
            assert "os.getenv" not in text, f"{path.relative_to(SOURCE)} reads the environment"
