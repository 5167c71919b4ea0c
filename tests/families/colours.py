"""A zero-shot classifier that anybody can foresee: a picture's features are its mean red, green and blue, and those of
a text say how often it names each colour. Two OpenVINO graphs and a tokenizer, as a conversion leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import openvino
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.card import Card, Json
from saccade.convert import Converter
from saccade.convert.agreement import Agreement, Numbers
from saccade.convert.job import Outcome, Report, Texts
from saccade.stores.local import Local

WORDS = ("<pad>", "<unk>", "red", "green", "blue")
LONGEST = 12
INPUTS = ("input_ids", "attention_mask")
PROCESSOR: dict[str, Json] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"height": 8, "width": 8},
    "do_center_crop": False,
    "resample": 2,
    "do_normalize": False,
}


def card(folder: Path, name: str = "colours") -> Card:
    """The model's Card, its files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, text = folder / "model.xml", folder / "text.xml"
    openvino.save_model(picture_graph(), picture, compress_to_fp16=False)
    openvino.save_model(text_graph(), text, compress_to_fp16=False)
    tokenizer().save(str(folder / "tokenizer.json"))
    graphs = [path.with_suffix(end) for path in (picture, text) for end in (".xml", ".bin")]
    return Card(
        name=name,
        task="zero-shot-classify",
        family="clip",
        runtime="openvino",
        files=tuple(map(str, (*graphs, folder / "tokenizer.json"))),
        input_hw=(8, 8),
        revision="colours-1",
        config={
            "config": {"model_type": "clip"},
            "preprocessor": PROCESSOR,
            "text": {"inputs": list(INPUTS), "longest": LONGEST},
        },
    )


def checkpoint(models: Path, home: Path, name: str = "colours") -> None:
    """A folder ``name`` among models that looks like a Hub checkpoint, and in ``home`` what its conversion left."""
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["CLIPModel"], "model_type": "clip"}')
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    known = Local([models]).find(name)
    assert known is not None
    graphs = Converter(home).folder(known)
    card(graphs)
    same = Agreement(share=1.0, score=0.0, compared=1)
    report = Report(
        way="openvino",
        dynamic=False,
        images=1,
        input_hw=(8, 8),
        numbers=Numbers(largest_error=0.0, largest_value=1.0),
        f32=same,
        auto=same,
        precision="auto",
        texts=Texts(inputs=INPUTS, longest=LONGEST, way="openvino"),
        torch="none",
        transformers="none",
        seconds=0.0,
    )
    (graphs / "report.json").write_bytes(msgspec.json.encode(Outcome(report=report)))


def picture_graph() -> openvino.Model:
    """Free in the number of pictures, so that batches can be tried."""
    pixels = ops.parameter([-1, 3, 8, 8], np.float32, name="pixel_values")
    return openvino.Model([ops.reduce_mean(pixels, np.array([2, 3]), False)], [pixels], "picture")


def text_graph() -> openvino.Model:
    numbers = ops.parameter([-1, -1], np.int64, name="input_ids")
    mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
    table = np.array([[9, 9, 9], [0.1, 0.1, 0.1], *(10 * np.eye(3))], np.float32)
    found = ops.gather(ops.constant(table), numbers, ops.constant(0))
    shown = ops.multiply(found, ops.unsqueeze(ops.convert(mask, np.float32), ops.constant(2)))
    features = ops.reduce_sum(shown, np.array([1]), False)
    shifts = ops.multiply(ops.reduce_sum(features, np.array([1]), False), ops.constant(np.float32(0)))
    return openvino.Model([features, shifts], [numbers, mask], "text")


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_padding(pad_id=0, pad_token="<pad>")
    return made
