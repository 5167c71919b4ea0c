"""Zero-shot classifiers become two graphs and a tokenizer, and answer as their pipelines of transformers 5.23.0 do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.clients.environments import run
from tests.convert.graphs import Graphs, python, towers

from saccade import media
from saccade.call import Options
from saccade.errors import BadOptions, CorruptFiles, UnsupportedModel
from saccade.model import Model
from saccade.results import Labels
from saccade.runtimes.session import Compute

pytestmark = pytest.mark.heavy

NAMES = ("clip", "clip-of-old", "siglip", "siglip2", "siglip2-naflex")
SCORE = 1e-4


def asked(parameters: dict[str, Any]) -> Options:
    return msgspec.convert(parameters, Options)


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_shot_classifier_answers_as_its_pipeline(name: str, data: Path, graphs: Graphs) -> None:
    home = towers(data)
    card = graphs.converted(home / name)
    assert card.runtime == "openvino", card.config.get("unconverted")
    model = Model(card, Compute(precision="f32", threads=2))
    try:
        for answer in json.loads((home / f"{name}.answers").read_text()):
            image_rgb = media.decode(Path(answer["photo"]).read_bytes()).rgb
            found = model.predict(image_rgb, asked(answer["parameters"])).result
            assert isinstance(found, Labels)
            assert list(found.names) == [entry["label"] for entry in answer["entries"]]
            assert found.scores == pytest.approx([entry["score"] for entry in answer["entries"]], abs=SCORE)
        if "siglip" not in name:
            with pytest.raises(BadOptions, match="tokens; the model takes 77 at most"):
                model.prepare(image_rgb, Options(candidate_labels=("cat", "word " * 80)))
    finally:
        model.close()


SAME_TOKENS = """
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
more = json.loads(sys.argv[3])
print(json.dumps(tokenizer(json.loads(sys.argv[2]), **more)["input_ids"]))
"""


def test_siglips_own_tokenizer_is_written_down_exactly(data: Path, graphs: Graphs) -> None:
    """It is Python code around SentencePiece: small letters, no punctuation, and no two blanks in a row."""
    from saccade.tokenizers import Tokenizer

    texts = [
        "A Dog.",
        "dog's  two\tcats",
        "(x) [y] {z}",
        "ＦＵＬＬ width ①",
        "Straße ÆRØ",
        "1,000.50 €",
        "a\u00a0b ﬁ",
        "w " * 99,
    ]
    cut = {"padding": "max_length", "max_length": 64, "truncation": True}
    home = towers(data)
    expected = json.loads(run(python(), SAME_TOKENS, str(home / "siglip"), json.dumps(texts), json.dumps(cut)))
    card = graphs.converted(home / "siglip")
    numbers, _ = Tokenizer(next(Path(file) for file in card.files if file.endswith("tokenizer.json")))(texts)
    assert numbers.tolist() == expected


def test_without_its_tokenizer_a_checkpoint_is_refused_in_words(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "speechless"
    shutil.copytree(towers(data) / "siglip", folder, ignore=shutil.ignore_patterns("*.model", "tokenizer*"))
    with pytest.raises(CorruptFiles, match="tokenizer of 'speechless' cannot be opened"):
        graphs.converted(folder)


def test_a_checkpoint_that_was_not_converted_says_why_when_it_is_opened(data: Path, graphs: Graphs) -> None:
    card = graphs.card(towers(data) / "clip")
    card = msgspec.structs.replace(card, config={**card.config, "unconverted": "It is too large."})
    with pytest.raises(UnsupportedModel, match=r"only as two graphs .* It is too large\."):
        Model(card, Compute())
