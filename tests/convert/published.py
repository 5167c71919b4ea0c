"""Checkpoints of real size, and what their pipelines answer. Runs in an environment with transformers, as a script:

    published.py NAME FOLDER ANSWERS PHOTO ...

The configurations are those that the authors published; the weights are random (the seed is fixed), with heads scaled
so that scores spread as those of trained models do. DETR's backbone is of the kind that needs no timm (the revision
"no_timm"), with ``@main`` after the name it is timm's.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PREPROCESSORS: dict[str, dict[str, Any]] = {
    "google/vit-base-patch16-224": {
        "image_processor_type": "ViTImageProcessor", "do_normalize": True, "do_resize": True, "size": 224, **HALF,
    },
    "facebook/deit-base-distilled-patch16-224": {
        "feature_extractor_type": "DeiTFeatureExtractor", "do_normalize": True, "do_resize": True, "resample": 3,
        "size": 256, "do_center_crop": True, "crop_size": 224, **IMAGENET,
    },
    "microsoft/beit-base-patch16-224-pt22k-ft22k": {
        "feature_extractor_type": "BeitFeatureExtractor", "do_normalize": True, "do_resize": True, "resample": 2,
        "size": 224, "do_center_crop": False, "crop_size": 224, **HALF,
    },
    "facebook/detr-resnet-50": {
        "feature_extractor_type": "DetrFeatureExtractor", "format": "coco_detection", "do_normalize": True,
        "do_resize": True, "size": 800, "max_size": 1333, **IMAGENET,
    },
    "openmmlab/upernet-convnext-small": {
        "image_processor_type": "SegformerImageProcessor", "do_normalize": True, "do_rescale": True,
        "do_reduce_labels": True, "do_resize": True, "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": 512, "width": 512}, **IMAGENET,
    },
    "facebook/mask2former-swin-large-coco-panoptic": {
        "image_processor_type": "Mask2FormerImageProcessor", "do_normalize": True, "do_rescale": True,
        "do_resize": True, "ignore_index": 255, "do_reduce_labels": False, "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": 384, "width": 384}, "size_divisor": 32, **IMAGENET,
    },
}  # fmt: skip
PREPROCESSORS["facebook/mask2former-swin-tiny-coco-panoptic"] = PREPROCESSORS[
    "facebook/mask2former-swin-large-coco-panoptic"
]
TIMM = {"backbone": "resnet50", "backbone_config": None, "use_timm_backbone": True}
"""What the published config.json of DETR says of its backbone, and that its weights are to be fetched from timm."""
TASKS = {"detr": "object-detection", "upernet": "image-segmentation", "mask2former": "image-segmentation"}


def model(name: str) -> Any:
    """The model with random weights."""
    import transformers as t

    def labels(count: int) -> dict[str, Any]:
        names = {number: f"class {number}" for number in range(count)}
        return {"id2label": names, "label2id": {label: number for number, label in names.items()}}

    if name.startswith("google/vit"):
        return t.ViTForImageClassification(t.ViTConfig(**labels(1000)))
    if name.startswith("facebook/deit"):
        return t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**labels(1000)))
    if name.startswith("microsoft/beit"):
        config = t.BeitConfig(
            use_relative_position_bias=True,
            use_absolute_position_embeddings=False,
            use_mean_pooling=True,
            layer_scale_init_value=0.1,
            **labels(21841),
        )
        return t.BeitForImageClassification(config)
    if name.endswith("@main"):
        return t.DetrForObjectDetection(t.DetrConfig(**TIMM, use_pretrained_backbone=False, **labels(91)))
    if name.startswith("facebook/detr"):
        backbone = t.ResNetConfig(out_features=["stage4"])
        config = t.DetrConfig(
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            backbone=None,
            backbone_config=backbone,
            **labels(91),
        )
        return t.DetrForObjectDetection(config)
    if name.startswith("openmmlab/upernet"):
        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = t.ConvNextConfig(depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768], out_features=stages)
        return t.UperNetForSemanticSegmentation(
            t.UperNetConfig(backbone_config=backbone, hidden_size=512, auxiliary_in_channels=384, **labels(150))
        )
    large = "swin-large" in name
    backbone = t.SwinConfig(
        image_size=384 if large else 224,
        embed_dim=192 if large else 96,
        depths=[2, 2, 18 if large else 6, 2],
        num_heads=[6, 12, 24, 48] if large else [3, 6, 12, 24],
        window_size=12 if large else 7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return t.Mask2FormerForUniversalSegmentation(
        t.Mask2FormerConfig(backbone_config=backbone, num_queries=200 if large else 100, **labels(133))
    )


def spread(made: Any, name: str) -> None:
    """Batch statistics and heads as if trained: scores that differ, masks that are not flat."""
    import torch

    with torch.no_grad():
        for part in made.modules():
            if hasattr(part, "running_var"):
                part.running_var.uniform_(0.5, 1.5)
                part.running_mean.normal_(0, 0.1)
        for key, weight in made.named_parameters():
            if weight.ndim > 1 and any(
                word in key
                for word in ("classifier", "class_labels_classifier", "class_predictor", "decode_head.classifier")
            ):
                weight.mul_(25)
            if "queries_features" in key or "query_position_embeddings" in key or "queries_embedder" in key:
                weight.normal_(0, 1)


def answers(folder: Path, name: str, photos: list[str]) -> list[dict[str, Any]]:
    """What the pipeline says to each photo, with masks as PNG files."""
    from transformers import AutoImageProcessor, pipeline

    task = next((task for word, task in TASKS.items() if word in name), "image-classification")
    asked: list[dict[str, Any]] = [{}]
    if task == "object-detection":
        asked = [{}, {"threshold": 0.1}]
    if "mask2former" in name:
        asked = [{"threshold": 0.2}, {"subtask": "instance", "threshold": 0.2}, {"subtask": "semantic"}]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pipe = pipeline(task, model=str(folder), image_processor=processor, device="cpu")
    found = []
    for photo in photos:
        for parameters in asked:
            entries = pipe(photo, **parameters)
            for entry in entries:
                if "mask" in entry:
                    file = io.BytesIO()
                    entry["mask"].save(file, "PNG")
                    entry["mask"] = base64.b64encode(file.getvalue()).decode()
            found.append({"photo": photo, "parameters": parameters, "entries": entries})
    return found


def main() -> None:
    import torch
    import transformers

    name, where, target, *photos = sys.argv[1:]
    folder = Path(where)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    made = model(name).eval()
    spread(made, name)
    made.save_pretrained(folder)
    if name.endswith("@main"):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **TIMM, "use_pretrained_backbone": True}))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSORS[name.partition("@")[0]]))
    del made
    if photos:
        Path(target).write_text(json.dumps(answers(folder, name, photos)))


if __name__ == "__main__":
    main()
