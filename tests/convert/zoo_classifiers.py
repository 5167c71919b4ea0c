"""Recipes of classifiers, one for each class of ``MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES``."""

from __future__ import annotations

import random
from typing import Any

from zoo_parts import CLASSIFY, HGNET, LABELS, NAMES, SHORT, SMALL, SQUARE, Recipe, cut, processor, square

TEXT: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50,
    "projection_dim": 16,
}  # fmt: skip
VISION: dict[str, Any] = {**SMALL, "image_size": 64, "patch_size": 16}
PERCEIVER: dict[str, Any] = {
    "num_latents": 8, "d_latents": 16, "d_model": 32, "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1, **LABELS,
}  # fmt: skip
PYRAMID: dict[str, Any] = {
    "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
}  # fmt: skip
LEVIT: dict[str, Any] = {
    "image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 4], "depths": [1, 1, 1],
    "key_dim": [8, 8, 8], **LABELS,
}  # fmt: skip
TIMM: dict[str, Any] = {
    "architecture": "resnet10t", "num_classes": 7, "label_names": list(NAMES.values()),
    "pretrained_cfg": {
        "input_size": [3, 65, 65], "test_input_size": [3, 96, 96], "interpolation": "bicubic", "crop_pct": 0.9,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    },
}  # fmt: skip


def recipes() -> dict[str, Recipe]:
    import transformers as t

    colours = random.Random(0)
    clusters = [[colours.uniform(-1, 1) for _ in range(3)] for _ in range(16)]
    made: dict[str, tuple[Any, Any]] = {
        "bit": (lambda: t.BitForImageClassification(t.BitConfig(
            embedding_size=16, hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], num_groups=4, **LABELS)),
            cut("Bit")),
        "clip": (lambda: t.CLIPForImageClassification(t.CLIPConfig(
            vision_config={**VISION, "projection_dim": 16}, text_config=TEXT, **LABELS)), cut("CLIP")),
        "convnextv2": (lambda: t.ConvNextV2ForImageClassification(t.ConvNextV2Config(
            hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], **LABELS)), processor("ConvNext", size=SHORT)),
        "cvt": (lambda: t.CvtForImageClassification(t.CvtConfig(
            embed_dim=[16, 32, 32], num_heads=[1, 2, 2], depth=[1, 2, 3], **LABELS)),
            processor("ConvNext", size=SHORT)),
        "data2vec": (lambda: t.Data2VecVisionForImageClassification(t.Data2VecVisionConfig(
            image_size=64, use_relative_position_bias=True, **SMALL)), square("Beit", do_center_crop=False)),
        "deit": (lambda: t.DeiTForImageClassification(t.DeiTConfig(image_size=64, **SMALL)),
            square("DeiT", crop_size=SQUARE)),
        "dinov2_registers": (lambda: t.Dinov2WithRegistersForImageClassification(t.Dinov2WithRegistersConfig(
            image_size=56, patch_size=14, **SMALL)),
            processor("Bit", size=SHORT, crop_size={"height": 56, "width": 56})),
        "donut_swin": (lambda: t.DonutSwinForImageClassification(t.DonutSwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, **LABELS)), square("Donut")),
        "efficientnet": (lambda: t.EfficientNetForImageClassification(t.EfficientNetConfig(
            image_size=64, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, **LABELS)),
            square("EfficientNet")),
        "focalnet": (lambda: t.FocalNetForImageClassification(t.FocalNetConfig(
            image_size=64, embed_dim=16, hidden_sizes=[16, 32], depths=[1, 1], focal_levels=[2, 2],
            focal_windows=[3, 3], **LABELS)), cut("Bit")),
        "hgnet_v2": (lambda: t.HGNetV2ForImageClassification(t.HGNetV2Config(**HGNET, **LABELS)), cut("Bit")),
        "hiera": (lambda: t.HieraForImageClassification(t.HieraConfig(
            image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], **LABELS)), cut("Bit")),
        "ijepa": (lambda: t.IJepaForImageClassification(t.IJepaConfig(image_size=64, **SMALL)), square("ViT")),
        "imagegpt": (lambda: t.ImageGPTForImageClassification(t.ImageGPTConfig(
            vocab_size=17, n_positions=64, n_embd=16, n_layer=2, n_head=2, **LABELS)),
            processor("ImageGPT", size={"height": 8, "width": 8}, clusters=clusters)),
        "levit": (lambda: t.LevitForImageClassificationWithTeacher(t.LevitConfig(**LEVIT)), cut("Levit")),
        "levit_alone": (lambda: t.LevitForImageClassification(t.LevitConfig(**LEVIT)), cut("Levit")),
        "metaclip_2": (lambda: t.MetaClip2ForImageClassification(t.MetaClip2Config(
            vision_config={**VISION, "projection_dim": 16}, text_config={**TEXT, "eos_token_id": 2}, **LABELS)),
            cut("CLIP")),
        "mobilenet_v1": (lambda: t.MobileNetV1ForImageClassification(t.MobileNetV1Config(
            depth_multiplier=0.25, **LABELS)), cut("MobileNetV1")),
        "mobilenet_v2": (lambda: t.MobileNetV2ForImageClassification(t.MobileNetV2Config(
            depth_multiplier=0.25, **LABELS)), cut("MobileNetV2")),
        "mobilevit": (lambda: t.MobileViTForImageClassification(t.MobileViTConfig(
            hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 16, 24, 32], num_attention_heads=2, **LABELS)),
            cut("MobileViT")),
        "mobilevitv2": (lambda: t.MobileViTV2ForImageClassification(t.MobileViTV2Config(
            width_multiplier=0.25, n_attn_blocks=[1, 1, 1], base_attn_unit_dims=[16, 24, 32], **LABELS)),
            cut("MobileViT")),
        "perceiver_conv": (lambda: t.PerceiverForImageClassificationConvProcessing(t.PerceiverConfig(
            image_size=224, **PERCEIVER)), processor("Perceiver")),
        "perceiver_fourier": (lambda: t.PerceiverForImageClassificationFourier(t.PerceiverConfig(
            image_size=224, **PERCEIVER)), processor("Perceiver")),
        "perceiver_learned": (lambda: t.PerceiverForImageClassificationLearned(t.PerceiverConfig(
            image_size=16, **PERCEIVER)),
            processor("Perceiver", size={"height": 16, "width": 16}, crop_size={"height": 18, "width": 18})),
        "poolformer": (lambda: t.PoolFormerForImageClassification(t.PoolFormerConfig(
            hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], **LABELS)), cut("PoolFormer")),
        "pp_lcnet": (lambda: t.PPLCNetForImageClassification(t.PPLCNetConfig(scale=0.25, **LABELS)),
            processor("PPLCNet", resize_short=72, crop_size=64)),
        "pvt": (lambda: t.PvtForImageClassification(t.PvtConfig(num_labels=7, image_size=64, **PYRAMID, **LABELS)),
            square("Pvt")),
        "pvt_v2": (lambda: t.PvtV2ForImageClassification(t.PvtV2Config(**PYRAMID, **LABELS)), square("Pvt")),
        "regnet": (lambda: t.RegNetForImageClassification(t.RegNetConfig(
            embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], groups_width=8, **LABELS)),
            processor("ConvNext", size=SHORT)),
        "segformer": (lambda: t.SegformerForImageClassification(t.SegformerConfig(**PYRAMID, **LABELS)),
            square("Segformer")),
        "siglip": (lambda: t.SiglipForImageClassification(t.SiglipConfig(
            vision_config=VISION, text_config=TEXT, **LABELS)), square("Siglip")),
        "siglip2": (lambda: t.Siglip2ForImageClassification(t.Siglip2Config(
            vision_config={**SMALL, "num_patches": 16, "patch_size": 16}, text_config=TEXT, **LABELS)),
            processor("Siglip2", patch_size=16, max_num_patches=20)),
        "swiftformer": (lambda: t.SwiftFormerForImageClassification(t.SwiftFormerConfig(
            depths=[1, 1, 1, 1], embed_dims=[8, 16, 16, 32], **LABELS)), square("ViT")),
        "swinv2": (lambda: t.Swinv2ForImageClassification(t.Swinv2Config(
            image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, **LABELS)), square("ViT")),
        "textnet": (lambda: t.TextNetForImageClassification(t.TextNetConfig(
            stem_out_channels=8, hidden_sizes=[8, 8, 16, 16, 32],
            conv_layer_kernel_sizes=[[[3, 3]], [[3, 3]], [[3, 1]], [[1, 3]]],
            conv_layer_strides=[[2], [2], [2], [2]], **LABELS)), processor("TextNet", size=SHORT)),
        "timm": (lambda: t.TimmWrapperForImageClassification(t.TimmWrapperConfig.from_dict(TIMM)), None),
        "vit_msn": (lambda: t.ViTMSNForImageClassification(t.ViTMSNConfig(image_size=64, **SMALL)), square("ViT")),
    }  # fmt: skip
    return {name: Recipe(CLASSIFY, model, processor) for name, (model, processor) in made.items()}
