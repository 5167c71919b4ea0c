"""Small zero-shot classifiers with random weights and tokenizers trained on a few lines, and what their pipelines say.
A script, for an environment with transformers:

    towers.py FOLDER PHOTO ...

writes FOLDER/NAME/ and FOLDER/NAME.answers for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINES = (
    "This is a photo of a cat.",
    "two dogs run on the beach in the morning light",
    "a red car parked before a big blue house in winter",
    "one airplane above the forest, seen from far away",
    "the quick brown fox jumps over the lazy dog",
    "a plate of food and a cup of coffee on a wooden table",
)
ASKED: tuple[dict[str, Any], ...] = (
    {"candidate_labels": ["a cat", "two dogs", "a red car parked before a big blue house"]},
    {"candidate_labels": ["Airplane, flying!", "FOOD", "two dogs"], "hypothesis_template": "{}"},
    {"candidate_labels": ["naïve café 😀 猫", "it's 3.14"], "hypothesis_template": "I see {} in the LIGHT"},
    {"candidate_labels": ["dog"]},
)
LONG = {"candidate_labels": ["cat", "word " * 80], "hypothesis_template": "{}"}
"""More than the model takes: SigLIP cuts it, CLIP's pipeline fails."""
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def clip_tokenizer() -> Any:
    """Pairs of bytes, a word's last one marked."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made, alphabet = Tokenizer(models.BPE(end_of_word_suffix="</w>")), pre_tokenizers.ByteLevel.alphabet()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.train_from_iterator(
        [line.lower() for line in LINES],
        trainers.BpeTrainer(vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet),
    )
    facts = json.loads(made.to_str())["model"]
    vocabulary = facts["vocab"]
    for token in (*(sign + "</w>" for sign in alphabet), "<|startoftext|>", "<|endoftext|>"):
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair) for pair in facts["merges"]]
    return t.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def siglip_tokenizer(folder: Path) -> Any:
    """A SentencePiece model like the one of T5, which SigLIP uses."""
    import sentencepiece
    import transformers as t

    lines = folder.with_suffix(".lines")
    lines.write_text(
        "\n".join([*(line.lower() for line in LINES), "abcdefghijklmnopqrstuvwxyz 0123456789 é ï ß æ ø å"])
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(folder.with_suffix("")), vocab_size=120, hard_vocab_limit=False,
        character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )  # fmt: skip
    return t.SiglipTokenizer(str(folder.with_suffix(".model")), model_input_names=["input_ids"])


def gemma_tokenizer() -> Any:
    """SigLIP 2's: pairs of characters with "▁" for blanks, and bytes for what it does not know."""
    import transformers as t
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    facts = json.loads(made.to_str())["model"]
    return t.Siglip2Tokenizer(
        vocab=facts["vocab"], merges=[tuple(pair) for pair in facts["merges"]], add_eos_token=True, padding_side="right"
    )


def recipes(home: Path) -> dict[str, Callable[[], tuple[Any, Any, Any]]]:
    """Name → model, tokenizer, image processor."""
    import transformers as t

    square = {"height": 64, "width": 64}
    vision = {**SMALL, "image_size": 64, "patch_size": 16}

    def clip() -> tuple[Any, Any, Any]:
        words = clip_tokenizer()
        numbers = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": 1}
        text = {**SMALL, "vocab_size": len(words), **numbers}
        model = t.CLIPModel(t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
        return model, words, t.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=square)

    def clip_of_old() -> tuple[Any, Any, Any]:
        """As OpenAI's own: the end of a text is the token of the highest number, and eos_token_id is wrong."""
        words = clip_tokenizer()
        text = {**SMALL, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
        model = t.CLIPModel(t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16))
        return model, words, t.CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=square)

    def siglip() -> tuple[Any, Any, Any]:
        words = siglip_tokenizer(home / "siglip.model")
        model = t.SiglipModel(t.SiglipConfig(vision_config=vision, text_config={**SMALL, "vocab_size": len(words)}))
        return model, words, t.SiglipImageProcessorPil(size=square)

    def siglip2() -> tuple[Any, Any, Any]:
        words = gemma_tokenizer()
        model = t.SiglipModel(t.SiglipConfig(vision_config=vision, text_config={**SMALL, "vocab_size": len(words)}))
        return model, words, t.SiglipImageProcessorPil(size=square, resample=2)

    def siglip2_naflex() -> tuple[Any, Any, Any]:
        words = gemma_tokenizer()
        flexible = {**SMALL, "patch_size": 16, "num_patches": 16}
        model = t.Siglip2Model(t.Siglip2Config(vision_config=flexible, text_config={**SMALL, "vocab_size": len(words)}))
        return model, words, t.Siglip2ImageProcessorPil(max_num_patches=40)

    return {
        "clip": clip,
        "clip-of-old": clip_of_old,
        "siglip": siglip,
        "siglip2": siglip2,
        "siglip2-naflex": siglip2_naflex,
    }


def alive(model: Any) -> Any:
    """Features that differ between pictures and between texts, and scores that are neither 0 nor 1."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.2 / (weight[0].numel() ** 0.5))
            if name in ("logit_scale", "logit_bias"):
                weight.fill_(2.0 if name == "logit_scale" else -0.7)
    return model.eval()


def answers(folder: Path, name: str, photos: list[str]) -> list[dict[str, Any]]:
    from transformers import AutoImageProcessor, pipeline

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pipe = pipeline("zero-shot-image-classification", model=str(folder), image_processor=processor, device="cpu")
    asked = [*ASKED, LONG] if "siglip" in name else ASKED
    return [
        {"photo": photo, "parameters": words, "entries": pipe(photo, **words)} for photo in photos for words in asked
    ]


def main() -> None:
    import torch
    import transformers

    home, *photos = sys.argv[1:]
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    Path(home).mkdir(parents=True, exist_ok=True)
    for name, make in recipes(Path(home)).items():
        folder = Path(home) / name
        torch.manual_seed(0)
        model, words, processor = make()
        alive(model).save_pretrained(folder)
        words.save_pretrained(folder)
        if name == "clip-of-old":
            config = json.loads((folder / "config.json").read_text())
            config["text_config"]["eos_token_id"] = 2
            (folder / "config.json").write_text(json.dumps(config))
        processor.save_pretrained(folder)
        (Path(home) / f"{name}.answers").write_text(json.dumps(answers(folder, name, photos)))


if __name__ == "__main__":
    main()
