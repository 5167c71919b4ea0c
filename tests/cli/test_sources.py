"""From words to the files that are looked at."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from saccade.cli.sources import expand
from saccade.errors import BadInput, BadOptions


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.jpg", "a.PNG", "film.mp4", "notes.txt", "sub/c.webp", "[x].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*words: str) -> list[str]:
    return [source.name for source in expand(words)]


def test_a_folder_is_searched_for_images_and_videos_in_order(tree: Path) -> None:
    assert names(".") == ["[x].png", "a.PNG", "b.jpg", "film.mp4", "sub/c.webp"]


def test_a_file_that_is_named_is_taken_whatever_its_name(tree: Path) -> None:
    assert names("notes.txt", "gone.jpg") == ["notes.txt", "gone.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree: Path) -> None:
    assert names("[x].png") == ["[x].png"]


def test_patterns_reach_into_folders(tree: Path) -> None:
    assert names("**/*.webp", "?.jpg") == ["sub/c.webp", "b.jpg"]


def test_a_pattern_in_quotes_may_begin_at_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree / "sub"))
    assert names("~/*.webp") == [str(tree / "sub" / "c.webp")]


def test_a_home_of_nobody_is_a_file_that_is_not_there(tree: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        expand(["~nobody-here/a.jpg"])


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    (source,) = expand(["-"])
    with pytest.raises(BadInput, match="standard input: it is closed"):
        source.read()


def test_a_dash_is_standard_input(tree: Path) -> None:
    (source,) = expand(["-"])
    assert (source.path, source.stem) == (None, "stdin")


def test_a_folder_is_searched_without_what_is_hidden(tree: Path) -> None:
    (tree / ".thumbnails").mkdir()
    for name in ("._b.jpg", ".thumbnails/b.jpg"):
        (tree / name).write_bytes(b"?")
    assert names(str(tree / "sub"), ".")[1:] == ["[x].png", "a.PNG", "b.jpg", "film.mp4", "sub/c.webp"]
    assert names("._b.jpg", ".thumbnails") == ["._b.jpg", ".thumbnails/b.jpg"]


def test_a_word_that_matches_nothing_among_others_cannot_be_read(tree: Path) -> None:
    first, missed, last = expand(["b.jpg", "*.tif", "a.PNG"])
    assert (first.name, last.name) == ("b.jpg", "a.PNG")
    with pytest.raises(BadInput, match=r"^no file matches this pattern"):
        missed.read()


@pytest.mark.parametrize("word", ["*.tif", "hollow", "holl*"])
def test_a_word_that_matches_nothing_is_named(tree: Path, word: str) -> None:
    (tree / "hollow").mkdir()
    with pytest.raises(BadInput, match=word.replace("*", r"\*")):
        expand([word])


@pytest.mark.parametrize("word", ["http://example.org/a.jpg", "HTTPS://example.org/a.jpg", "file:///srv/a.jpg"])
def test_an_address_is_not_fetched_and_the_way_is_told(tree: Path, word: str) -> None:
    with pytest.raises(BadInput, match=r"addresses are not fetched.*predict -"):
        expand([word])


def test_the_way_to_an_address_can_be_typed_as_it_is_told(tree: Path) -> None:
    with pytest.raises(BadInput) as caught:
        expand(["http://example.org/a b.jpg?x=it's"])
    assert shlex.split(caught.value.message.partition(": curl ")[2])[1] == "http://example.org/a b.jpg?x=it's"


@pytest.mark.parametrize("word", ["s3://bucket/a.jpg", "gs://bucket/*.jpg"])
def test_an_address_that_nothing_here_reads_is_no_missing_file(tree: Path, word: str) -> None:
    with pytest.raises(BadInput, match="addresses are not fetched"):
        expand([word])


@pytest.mark.parametrize(
    ("word", "camera", "name", "stem"),
    [
        ("0", 0, "0", "camera-0"),
        ("12", 12, "12", "camera-12"),
        ("rtsp://me:secret@10.0.0.9/live", "rtsp://me:secret@10.0.0.9/live", "rtsp://10.0.0.9/live", "camera-10.0.0.9"),
        ("RTSPS://10.0.0.9?key=secret", "RTSPS://10.0.0.9?key=secret", "rtsps://10.0.0.9?key=…", "camera-10.0.0.9"),
        ("udp://[::1]:5000", "udp://[::1]:5000", "udp://[::1]:5000", "camera-1-5000"),
    ],
)
def test_a_camera_has_a_name_without_its_password(
    tree: Path, word: str, camera: int | str, name: str, stem: str
) -> None:
    (source,) = expand([word])
    assert (source.camera, source.name, source.stem) == (camera, name, stem)
    assert "secret" not in repr(source)


def test_a_file_that_is_called_like_a_camera_is_a_file(tree: Path) -> None:
    (tree / "0").write_bytes(b"?")
    (source,) = expand(["0"])
    assert (source.camera, source.path) == (None, Path("0"))


@pytest.mark.parametrize("word", ["20260101", "rtsp://", "²"])
def test_what_only_looks_like_a_camera_is_none(tree: Path, word: str) -> None:
    with pytest.raises(BadInput):
        expand([word])


def test_a_device_that_is_no_camera_is_read_as_a_file(tree: Path) -> None:
    (source,) = expand(["/dev/null"])
    assert (source.camera, source.path) == (None, Path("/dev/null"))


@pytest.mark.parametrize("words", [("0", "b.jpg"), ("b.jpg", "rtsp://me:secret@10.0.0.9/live"), ("0", "gone.jpg")])
def test_a_camera_among_others_is_refused(tree: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(BadOptions, match="Name it alone") as caught:
        expand(words)
    assert "secret" not in caught.value.message


def test_an_empty_word_is_not_the_folder_in_which_one_stands(tree: Path) -> None:
    with pytest.raises(BadInput, match="empty text"):
        expand([""])


def test_what_was_saved_is_not_looked_at_again(tree: Path) -> None:
    (tree / "sub/out").mkdir()
    (tree / "sub/out/c.jpg").write_bytes(b"?")

    def seen(word: str, album: str) -> list[str]:
        return [source.name for source in expand([word], Path(album))]

    assert seen(".", "sub/out") == ["[x].png", "a.PNG", "b.jpg", "film.mp4", "sub/c.webp"]
    assert seen(str(tree / "sub"), "./sub/../sub/out") == [str(tree / "sub/c.webp")]
    assert seen("sub/out", "sub/out") == ["sub/out/c.jpg"]
    assert seen("sub/out", "sub") == ["sub/out/c.jpg"]
    assert seen("sub/*/*.jpg", "sub/out") == ["sub/out/c.jpg"]


def test_a_file_that_is_not_there_is_named_before_anything_is_read(tree: Path) -> None:
    with pytest.raises(BadInput, match=r"^cannot read gone\.jpg: No such file"):
        expand(["gone.jpg"])
    _, gone = expand(["b.jpg", "gone.jpg"])
    with pytest.raises(BadInput, match=r"^cannot read gone\.jpg: No such file"):
        gone.read()


def test_reading_a_file_that_is_gone_says_so(tree: Path) -> None:
    (source,) = expand(["b.jpg"])
    (tree / "b.jpg").unlink()
    with pytest.raises(BadInput, match=r"cannot read b\.jpg: No such file"):
        source.read()
