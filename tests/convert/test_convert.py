"""Checkpoints become graphs once, are checked, kept, and refused in words."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from tests.convert.graphs import Graphs

from saccade.convert import Converter
from saccade.convert.agreement import agreement
from saccade.errors import CorruptFiles, MissingExtra, RunFailed
from saccade.stores.local import Local
from saccade.stores.store import silent


class Steps:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, what: str, done: int, total: int | None) -> None:
        self.told.append(what)


@pytest.mark.heavy
def test_a_graph_is_made_once_with_progress_and_a_report(data: Path, graphs: Graphs) -> None:
    steps = Steps()
    card = graphs.card(data / "models" / "hf-tiny" / "yolos")
    graphs.converter.forget(card)
    made = graphs.converter.convert(card, steps)
    assert made.runtime == "openvino"
    assert any("checking" in told for told in steps.told)
    report = made.config["certificate"]
    assert isinstance(report, dict)
    assert report["f32"]["share"] > 0.99
    assert (Path(made.files[0]).parent / "report.json").is_file()
    again = Steps()
    assert graphs.converter.convert(card, again) == made
    assert again.told == []


@pytest.mark.heavy
def test_a_checkpoint_with_missing_weights_is_refused(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "halved"
    shutil.copytree(data / "models" / "hf-tiny" / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
    with pytest.raises(CorruptFiles, match=r"lacks [0-9]+ weights"):
        graphs.converted(folder)


@pytest.mark.heavy
def test_what_does_not_convert_stays_a_checkpoint_with_the_reason(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "unheard-of"
    shutil.copytree(data / "models" / "hf-tiny" / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["GrenadineForImageClassification"]}))
    card = graphs.converted(folder)
    assert card.runtime == "torch"
    assert "GrenadineForImageClassification" in str(card.config["unconverted"])


def test_without_the_extra_the_message_names_it(data: Path, tmp_path: Path) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"saccade\[transformers\]"):
            Converter(tmp_path).convert(card)
    else:
        pytest.skip("torch is installed here")


def test_a_process_that_dies_is_reported_with_its_last_words(data: Path, tmp_path: Path) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    broken = tmp_path / "python"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.read()\nsys.exit('the dog ate it')\n")
    broken.chmod(0o755)
    with pytest.raises(RunFailed, match="the dog ate it"):
        Converter(tmp_path, python=str(broken)).convert(card)
    assert list((tmp_path / "graphs").iterdir()) == []


def test_what_is_no_checkpoint_needs_no_conversion(data: Path, tmp_path: Path) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    graph = msgspec.structs.replace(card, runtime="openvino")
    assert Converter(tmp_path).convert(graph, silent) is graph


def test_two_empty_answers_agree() -> None:
    assert agreement([]).share == 1.0
