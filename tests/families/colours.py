"""A zero-shot classifier that anybody can foresee: a picture's features are its mean red, green and blue, and those of
a text say how often it names each colour. Two OpenVINO graphs and a tokenizer, as a conversion leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.card import Card

WORDS = ("<pad>", "<unk>", "red", "green", "blue")
LONGEST = 12


def card(folder: Path, name: str = "colours") -> Card:
    """The model's Card, its files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, text = folder / "model.xml", folder / "text.xml"
    openvino.save_model(picture_graph(), picture, compress_to_fp16=False)
    openvino.save_model(text_graph(), text, compress_to_fp16=False)
    tokenizer().save(str(folder / "tokenizer.json"))
    graphs = [path.with_suffix(end) for path in (picture, text) for end in (".xml", ".bin")]
    size = {"height": 8, "width": 8}
    processor = {"image_processor_type": "CLIPImageProcessor", "size": size, "do_center_crop": False, "resample": 2}
    plain = {**processor, "do_normalize": False}
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
            "preprocessor": plain,
            "text": {"inputs": ["input_ids", "attention_mask"], "longest": LONGEST},
        },
    )


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
