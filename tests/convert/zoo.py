"""Small checkpoints of every architecture with random weights, and what their pipelines answer. A script:

    zoo.py FOLDER NAMES PHOTO ...

writes FOLDER/NAME/ and FOLDER/NAME.answers for each of the names (with commas between, or "all"); of an architecture
that this transformers cannot make, the reason in FOLDER/NAME.txt. Runs in an environment with transformers.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import zoo_classifiers
import zoo_detectors
import zoo_segmenters
from zoo_parts import DEPTH, DETECT, SEGMENT, TEXTS, Recipe

ASKED: dict[str, list[dict[str, Any]]] = {
    DETECT: [{"threshold": 0.3}],
    SEGMENT: [
        {"threshold": 0.3},
        {"subtask": "semantic"},
        {"subtask": "instance", "threshold": 0.1},
        {"subtask": "panoptic", "threshold": 0.2, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1},
    ],
    TEXTS: [{"threshold": 0.3}],
}
"""Parameters by task; the others are asked for their defaults."""
WITHOUT_PIPELINE = "PPLCNetForImageClassification"
"""Gives its logits under a name under which no pipeline looks."""


def recipes() -> dict[str, Recipe]:
    return {**zoo_classifiers.recipes(), **zoo_detectors.recipes(), **zoo_segmenters.recipes()}


def alive(model: Any) -> Any:
    """Numbers that differ between pictures, classes and queries."""
    import torch

    with torch.no_grad():
        for part in model.modules():
            if getattr(part, "running_var", None) is not None:
                part.running_var.uniform_(0.5, 1.5)
                part.running_mean.normal_(0, 0.1)
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and weight.numel():
                weight.normal_(0, 1.2 / (weight[0].numel() ** 0.5))
            if weight.ndim > 1 and any(word in name for word in ("classifier", "class_embed", "class_predictor")):
                weight.mul_(3)
            if any(word in name for word in ("queries_features", "queries_embedder", "query_embedder")):
                weight.normal_(0, 2)
    return model.eval()


def calmed(model: Any) -> Any:
    """A detector of texts whose map has slopes and islands: numbers of invented layers grow to 1e10, the map then holds
    nothing but 0 and 1, and a pixel that is rounded otherwise changes its outlines."""
    import torch

    last = [part for part in model.modules() if isinstance(part, torch.nn.ConvTranspose2d)][-1]
    seen: list[Any] = []
    watch = last.register_forward_hook(lambda part, given, found: seen.append(found))
    with torch.no_grad():
        model(torch.nn.functional.interpolate(torch.randn(1, 3, 16, 16), scale_factor=8, mode="bicubic"))
        last.weight.mul_(3 / seen[0].std())
        last.bias.copy_(-3 * seen[0].mean() / seen[0].std() - 4)
    watch.remove()
    return model


def answers(recipe: Recipe, folder: Path, photos: list[str]) -> list[dict[str, Any]]:
    """What the pipeline says to each photo and each set of parameters; "refused" where it raises."""
    import transformers as t

    processor = t.AutoImageProcessor.from_pretrained(folder, backend="pil")
    if recipe.words:
        # Its post-processing looks into the name of a file that only training needs.
        processor.class_info_file = ""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    if recipe.task == TEXTS or architecture == WITHOUT_PIPELINE:
        model = getattr(t, architecture).from_pretrained(folder).eval()
        ask = texts if recipe.task == TEXTS else ranked
        return [{"photo": photo, **ask(model, processor, photo)} for photo in photos]
    pipe = t.pipeline(recipe.task, model=str(folder), image_processor=processor, device="cpu")
    found = []
    for photo in photos:
        for parameters in ASKED.get(recipe.task, [{}]):
            try:
                entries = pipe(photo, **parameters)
            except (ValueError, TypeError) as error:
                found.append({"photo": photo, "parameters": parameters, "refused": str(error)})
                continue
            if recipe.task == DEPTH:
                entries = [{"depth": entries["predicted_depth"].reshape(-1).tolist()}]
            for entry in entries:
                if "mask" in entry:
                    file = io.BytesIO()
                    entry["mask"].save(file, "PNG")
                    entry["mask"] = base64.b64encode(file.getvalue()).decode()
            found.append({"photo": photo, "parameters": parameters, "entries": entries})
    return found


def ranked(model: Any, processor: Any, photo: str) -> dict[str, Any]:
    """As the pipeline of classification answers."""
    import torch
    from PIL import Image

    with torch.inference_mode():
        logits = model(**processor(Image.open(photo).convert("RGB"), return_tensors="pt")).last_hidden_state[0]
    scores, order = logits.softmax(-1).topk(5)
    labels = [model.config.id2label[number] for number in order.tolist()]
    entries = [{"label": label, "score": score} for label, score in zip(labels, scores.tolist(), strict=True)]
    return {"parameters": {}, "entries": entries}


def texts(model: Any, processor: Any, photo: str) -> dict[str, Any]:
    """What the processor makes of a detector of texts; the pipeline takes their four corners for one box."""
    import torch
    from PIL import Image

    image = Image.open(photo).convert("RGB")
    with torch.inference_mode():
        outputs = model(processor(image, return_tensors="pt")["pixel_values"])
    sizes = torch.tensor([[image.height, image.width]])
    found = processor.post_process_object_detection(outputs, threshold=0.3, box_threshold=0.3, target_sizes=sizes)[0]
    pairs = zip(found["scores"].tolist(), found["boxes"].reshape(-1, 4, 2).tolist(), strict=True)
    return {
        "parameters": ASKED[TEXTS][0],
        "entries": [{"score": score, "corners": corners} for score, corners in pairs],
    }


def words() -> Any:
    import towers

    return towers.clip_tokenizer()


def main() -> None:
    import torch
    import transformers

    home, wanted, *photos = sys.argv[1:]
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    for name, recipe in recipes().items():
        folder = Path(home) / name
        if wanted != "all" and name not in wanted.split(","):
            continue
        try:
            torch.manual_seed(0)
            model = alive(recipe.model())
            (calmed(model) if recipe.task == TEXTS else model).save_pretrained(folder)
            if recipe.processor is not None:
                recipe.processor().save_pretrained(folder)
            if recipe.words:
                words().save_pretrained(folder)
            (Path(home) / f"{name}.answers").write_text(json.dumps(answers(recipe, folder, photos)))
        except Exception as error:
            (Path(home) / f"{name}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
