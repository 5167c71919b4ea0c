"""Small checkpoints of many architectures with random weights, and what their pipelines answer. A script:

    zoo.py FOLDER PHOTO ...

writes FOLDER/NAME/ and FOLDER/NAME.answers for each; an architecture that this transformers cannot make is left out,
with the reason in FOLDER/NAME.txt. Runs in an environment with transformers.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LABELS = {"id2label": {number: f"class {number}" for number in range(7)}}
LABELS["label2id"] = {label: number for number, label in LABELS["id2label"].items()}  # type: ignore[assignment]
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def recipes() -> dict[str, tuple[str, Callable[[], Any], Any]]:
    """Name → (task, model, processor)."""
    import transformers as t

    def processor(kind: str, **facts: Any) -> Any:
        return getattr(t, f"{kind}ImageProcessorPil")(**facts)

    square, short = {"height": 64, "width": 64}, {"shortest_edge": 64}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, **LABELS}
    resnet = t.ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], out_features=STAGES)
    detr = {
        "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "d_model": 32,
        "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12, **LABELS,
    }  # fmt: skip
    edges = {"shortest_edge": 96, "longest_edge": 160}
    cls, det, seg, depth = "image-classification", "object-detection", "image-segmentation", "depth-estimation"
    vit = processor("ViT", size=square)
    return {
        "swinv2": (cls, lambda: t.Swinv2ForImageClassification(t.Swinv2Config(
            image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, **LABELS)), vit),
        "convnextv2": (cls, lambda: t.ConvNextV2ForImageClassification(t.ConvNextV2Config(
            hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], **LABELS)), processor("ConvNext", size=short)),
        "regnet": (cls, lambda: t.RegNetForImageClassification(t.RegNetConfig(
            embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], groups_width=8, **LABELS)),
            processor("ConvNext", size=short)),
        "efficientnet": (cls, lambda: t.EfficientNetForImageClassification(t.EfficientNetConfig(
            image_size=64, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, **LABELS)),
            processor("EfficientNet", size=square)),
        "mobilenet_v1": (cls, lambda: t.MobileNetV1ForImageClassification(t.MobileNetV1Config(
            depth_multiplier=0.25, **LABELS)), processor("MobileNetV1", size=short, crop_size=square)),
        "mobilevit": (cls, lambda: t.MobileViTForImageClassification(t.MobileViTConfig(
            hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 16, 24, 32], num_attention_heads=2, **LABELS)),
            processor("MobileViT", size=short, crop_size=square)),
        "levit": (cls, lambda: t.LevitForImageClassificationWithTeacher(t.LevitConfig(
            image_size=64, hidden_sizes=[16, 32, 48], num_attention_heads=[2, 2, 4], depths=[1, 1, 1],
            key_dim=[8, 8, 8], **LABELS)), processor("Levit", size=short, crop_size=square)),
        "poolformer": (cls, lambda: t.PoolFormerForImageClassification(t.PoolFormerConfig(
            hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], **LABELS)),
            processor("PoolFormer", size=short, crop_size=square)),
        "pvt_v2": (cls, lambda: t.PvtV2ForImageClassification(t.PvtV2Config(
            hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2], **LABELS)),
            processor("Pvt", size=square)),
        "clip": (cls, lambda: t.CLIPForImageClassification(t.CLIPConfig(
            vision_config={**small, "image_size": 64, "patch_size": 16, "projection_dim": 16},
            text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
                         "vocab_size": 50, "projection_dim": 16}, **LABELS)),
            processor("CLIP", size=short, crop_size=square)),
        "dinov2_registers": (cls, lambda: t.Dinov2WithRegistersForImageClassification(t.Dinov2WithRegistersConfig(
            image_size=56, patch_size=14, **small)),
            processor("Bit", size=short, crop_size={"height": 56, "width": 56})),
        "hiera": (cls, lambda: t.HieraForImageClassification(t.HieraConfig(
            image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], **LABELS)),
            processor("Bit", size=short, crop_size=square)),
        "conditional_detr": (det, lambda: t.ConditionalDetrForObjectDetection(t.ConditionalDetrConfig(
            backbone_config=resnet, **detr)), processor("ConditionalDetr", size=edges)),
        "deformable_detr": (det, lambda: t.DeformableDetrForObjectDetection(t.DeformableDetrConfig(
            backbone_config=t.ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1],
                                           out_features=STAGES[1:]), with_box_refine=True, two_stage=False,
            **{**detr, "decoder_layers": 2})),
            processor("DeformableDetr", size=edges)),
        "table_transformer": (det, lambda: t.TableTransformerForObjectDetection(t.TableTransformerConfig(
            backbone_config=resnet, **detr)), processor("Detr", size=edges)),
        "dab_detr": (det, lambda: t.DabDetrForObjectDetection(t.DabDetrConfig(
            backbone_config=resnet, hidden_size=32, **{k: v for k, v in detr.items() if k != "d_model"})),
            processor("ConditionalDetr", size=edges)),
        "d_fine": (det, lambda: t.DFineForObjectDetection(t.DFineConfig(
            d_model=32, encoder_hidden_dim=32, encoder_in_channels=[32, 64, 128], feat_strides=[8, 16, 32],
            encoder_ffn_dim=64, decoder_ffn_dim=64, decoder_in_channels=[32, 32, 32], decoder_layers=2, num_queries=20,
            encoder_attention_heads=4, decoder_attention_heads=4, num_denoising=0, decoder_n_points=[3, 6, 3],
            max_num_bins=32, backbone_config=t.HGNetV2Config(
                stem_channels=[3, 8, 16], hidden_sizes=[16, 32, 64, 128], stage_in_channels=[16, 16, 32, 64],
                stage_mid_channels=[8, 8, 16, 16], stage_out_channels=[16, 32, 64, 128], stage_num_blocks=[1, 1, 1, 1],
                stage_numb_of_layers=[3, 3, 3, 3], out_features=STAGES[1:]), **LABELS)),
            processor("RTDetr", size={"height": 96, "width": 96})),
        "beit_semantic": (seg, lambda: t.BeitForSemanticSegmentation(t.BeitConfig(
            image_size=64, patch_size=16, out_indices=[1, 2, 3, 4], use_auxiliary_head=False,
            **{**small, "num_hidden_layers": 4})), processor("Beit", size=square)),
        "dpt_semantic": (seg, lambda: t.DPTForSemanticSegmentation(t.DPTConfig(
            image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=16, reassemble_factors=[4, 2, 1, 0.5], use_auxiliary_head=False,
            **{**small, "num_hidden_layers": 4})), processor("DPT", size=square)),
        "mobilevit_semantic": (seg, lambda: t.MobileViTForSemanticSegmentation(t.MobileViTConfig(
            hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 16, 24, 32], num_attention_heads=2,
            aspp_out_channels=16, **LABELS)), processor("MobileViT", size=square, crop_size=square)),
        "upernet_swin": (seg, lambda: t.UperNetForSemanticSegmentation(t.UperNetConfig(
            backbone_config=t.SwinConfig(image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[2, 2, 2, 2],
                                         window_size=4, out_features=STAGES),
            hidden_size=16, auxiliary_in_channels=64, **LABELS)), processor("Segformer", size=square)),
        "eomt": (seg, lambda: t.EomtForUniversalSegmentation(t.EomtConfig(
            image_size=64, patch_size=16, num_blocks=1, num_queries=10, num_upscale_blocks=1,
            **{**small, "mlp_ratio": 2})),
            processor("Eomt", size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)),
        "mask2former_resnet": (seg, lambda: t.Mask2FormerForUniversalSegmentation(t.Mask2FormerConfig(
            backbone_config=resnet, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64,
            encoder_layers=1, decoder_layers=2, num_attention_heads=4, dim_feedforward=64, num_queries=10, **LABELS)),
            processor("Mask2Former", size=edges)),
        "depth_anything": (depth, lambda: t.DepthAnythingForDepthEstimation(t.DepthAnythingConfig(
            backbone_config=t.Dinov2Config(image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4,
                                           num_attention_heads=4, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
                                           apply_layernorm=True),
            patch_size=14, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
            head_hidden_size=8)), processor("DPT", size={"height": 56, "width": 56}, keep_aspect_ratio=True,
                                            ensure_multiple_of=14)),
        "dpt": (depth, lambda: t.DPTForDepthEstimation(t.DPTConfig(
            image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=16, reassemble_factors=[4, 2, 1, 0.5], hidden_size=32, num_hidden_layers=4,
            num_attention_heads=4, intermediate_size=64)), processor("DPT", size=square)),
        "glpn": (depth, lambda: t.GLPNForDepthEstimation(t.GLPNConfig(
            hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16)), processor("GLPN")),
    }  # fmt: skip


def alive(model: Any) -> Any:
    """Numbers that differ between pictures and classes."""
    import torch

    with torch.no_grad():
        for part in model.modules():
            if hasattr(part, "running_var"):
                part.running_var.uniform_(0.5, 1.5)
                part.running_mean.normal_(0, 0.1)
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.2 / (weight[0].numel() ** 0.5))
            if any(word in name for word in ("classifier", "class_embed", "class_predictor")) and weight.ndim > 1:
                weight.mul_(3)
    return model.eval()


def answers(task: str, folder: Path, photos: list[str]) -> list[dict[str, Any]]:
    from transformers import pipeline

    pipe = pipeline(task, model=str(folder), device="cpu")
    asked: dict[str, list[dict[str, Any]]] = {
        "object-detection": [{"threshold": 0.3}],
        "image-segmentation": [{"threshold": 0.3}, {"subtask": "semantic"}],
    }
    found = []
    for photo in photos:
        for parameters in asked.get(task, [{}]):
            entries = pipe(photo, **parameters)
            if task == "depth-estimation":
                entries = [{"depth": entries["predicted_depth"].reshape(-1).tolist()}]
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

    home, *photos = sys.argv[1:]
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    for name, (task, make, processor) in recipes().items():
        folder = Path(home) / name
        try:
            torch.manual_seed(0)
            alive(make()).save_pretrained(folder)
            processor.save_pretrained(folder)
            (Path(home) / f"{name}.answers").write_text(json.dumps(answers(task, folder, photos)))
        except Exception as error:
            (Path(home) / f"{name}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
