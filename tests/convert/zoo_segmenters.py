"""Recipes of segmenters, one for each class of the three mappings of segmentation, and of depth estimators."""

from __future__ import annotations

from typing import Any

from zoo_detectors import LIGHT, WINDOWED
from zoo_parts import (
    DEPTH,
    DETR,
    EDGES,
    LABELS,
    LARGER,
    SEGMENT,
    SMALL,
    SQUARE,
    STAGES,
    Recipe,
    cut,
    processor,
    resnet,
    square,
)

FOUR: dict[str, Any] = {**SMALL, "num_hidden_layers": 4}
DPT: dict[str, Any] = {
    "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 16, "reassemble_factors": [4, 2, 1, 0.5], **FOUR,
}  # fmt: skip
MASKS: dict[str, Any] = {
    "hidden_dim": 32, "encoder_feedforward_dim": 64, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 4, "dim_feedforward": 64, "num_queries": 10, **LABELS,
}  # fmt: skip
EOMT: dict[str, Any] = {
    "image_size": 64, "patch_size": 16, "num_blocks": 1, "num_queries": 10, "num_upscale_blocks": 1, **SMALL,
}  # fmt: skip
HEAD: dict[str, Any] = {
    "upsample_out_channels": [16, 16], "upsample_kernel_sizes": [4, 4], "conv_out_channels": [16],
    "conv_kernel_sizes": [1],
}  # fmt: skip
TIPS: dict[str, Any] = {
    "model_type": "tipsv2_vision_model", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 64, "image_size": 56, "patch_size": 14, "out_indices": [1, 2, 3, 4], "apply_layernorm": True,
    "reshape_hidden_states": False,
}  # fmt: skip

PIECE: dict[str, Any] = {
    "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8,
    "image_size": 24, "intermediate_size": 24,
}  # fmt: skip


def recipes() -> dict[str, Recipe]:
    import transformers as t

    def swin() -> Any:
        return t.SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[2] * 4, window_size=4, out_features=STAGES
        )

    eomt = processor("Eomt", size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    patches = {"height": 56, "width": 56}
    made: dict[str, tuple[Any, Any]] = {
        "beit_semantic": (lambda: t.BeitForSemanticSegmentation(t.BeitConfig(
            image_size=64, patch_size=16, out_indices=[1, 2, 3, 4], use_auxiliary_head=False, **FOUR)), square("Beit")),
        "data2vec_semantic": (lambda: t.Data2VecVisionForSemanticSegmentation(t.Data2VecVisionConfig(
            image_size=64, out_indices=[1, 2, 3, 4], use_auxiliary_head=False, **FOUR)), square("Beit")),
        "detr_masks_padded": (lambda: t.DetrForSegmentation(t.DetrConfig(
            backbone_config=resnet(), **{**DETR, "encoder_attention_heads": 8, "decoder_attention_heads": 8})),
            processor("Detr", size={"max_height": 96, "max_width": 96}, pad_size=LARGER)),
        "dpt_semantic": (lambda: t.DPTForSemanticSegmentation(t.DPTConfig(use_auxiliary_head=False, **DPT)),
            square("DPT")),
        "eomt": (lambda: t.EomtForUniversalSegmentation(t.EomtConfig(**{**EOMT, "mlp_ratio": 2})), eomt),
        "eomt_dinov3": (lambda: t.EomtDinov3ForUniversalSegmentation(t.EomtDinov3Config(**EOMT)), eomt),
        "mask2former_resnet": (lambda: t.Mask2FormerForUniversalSegmentation(t.Mask2FormerConfig(
            backbone_config=resnet(), feature_size=32, mask_feature_size=32, **MASKS)),
            processor("Mask2Former", size=EDGES)),
        "maskformer_resnet": (lambda: t.MaskFormerForInstanceSegmentation(t.MaskFormerConfig(
            fpn_feature_size=32, mask_feature_size=32, backbone_config=resnet(),
            decoder_config=t.DetrConfig(backbone_config=resnet(), **DETR), **LABELS)),
            processor("MaskFormer", size=EDGES)),
        "mobilenet_v2_semantic": (lambda: t.MobileNetV2ForSemanticSegmentation(t.MobileNetV2Config(
            depth_multiplier=0.25, output_stride=8, **LABELS)), cut("MobileNetV2")),
        "mobilevit_semantic": (lambda: t.MobileViTForSemanticSegmentation(t.MobileViTConfig(
            hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 16, 24, 32], num_attention_heads=2,
            aspp_out_channels=16, **LABELS)), square("MobileViT", crop_size=SQUARE)),
        "mobilevitv2_semantic": (lambda: t.MobileViTV2ForSemanticSegmentation(t.MobileViTV2Config(
            width_multiplier=0.25, n_attn_blocks=[1, 1, 1], base_attn_unit_dims=[16, 24, 32], aspp_out_channels=16,
            **LABELS)), square("MobileViT", crop_size=SQUARE)),
        "rf_detr_instance": (lambda: t.RfDetrForInstanceSegmentation(t.RfDetrConfig(
            backbone_config=WINDOWED, **LIGHT)), processor("RfDetr", size=LARGER)),
        "sapiens2_semantic": (lambda: t.Sapiens2ForSemanticSegmentation(t.Sapiens2Config(
            image_size=[64, 48], patch_size=16, num_key_value_attention_heads=2, num_first_full_attention_layers=1,
            num_last_full_attention_layers=1, head_config=HEAD, **SMALL)),
            processor("Sapiens2", size={"height": 64, "width": 48})),
        "tipsv2_semantic": (lambda: t.Tipsv2DptForSemanticSegmentation(t.Tipsv2DptConfig(
            backbone_config=TIPS, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, **LABELS)),
            processor("Tipsv2Dpt", size=patches)),
        "upernet_swin": (lambda: t.UperNetForSemanticSegmentation(t.UperNetConfig(
            backbone_config=swin(), hidden_size=16, auxiliary_in_channels=64, **LABELS)), square("Segformer")),
    }  # fmt: skip
    depth: dict[str, tuple[Any, Any]] = {
        "chmv2": (lambda: t.CHMv2ForDepthEstimation(t.CHMv2Config(
            backbone_config=t.DINOv3ViTConfig(
                image_size=64, reshape_hidden_states=True, return_class_token=True, out_features=STAGES, **FOUR),
            reassemble_factors=[4, 2, 1, 0.5], post_process_channels=[8, 8, 16, 16], fusion_hidden_size=16,
            head_hidden_size=8, number_output_channels=16)), square("CHMv2")),
        "depth_anything": (lambda: t.DepthAnythingForDepthEstimation(t.DepthAnythingConfig(
            backbone_config=t.Dinov2Config(
                image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
                out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True),
            patch_size=14, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16,
            head_hidden_size=8)), processor("DPT", size=patches, keep_aspect_ratio=True, ensure_multiple_of=14)),
        "depth_pro": (lambda: t.DepthProForDepthEstimation(t.DepthProConfig(
            image_model_config=PIECE, patch_model_config=PIECE, fov_model_config=PIECE, patch_size=24,
            fusion_hidden_size=16, scaled_images_ratios=[0.5, 1.0], scaled_images_overlap_ratios=[0.0, 0.2],
            scaled_images_feature_dims=[16, 8], intermediate_hook_ids=[1, 0], intermediate_feature_dims=[16, 8],
            use_fov_model=True, num_fov_head_layers=1)), processor("DepthPro", size={"height": 48, "width": 48})),
        "dpt": (lambda: t.DPTForDepthEstimation(t.DPTConfig(**DPT)), square("DPT")),
        "dpt_padded": (lambda: t.DPTForDepthEstimation(t.DPTConfig(**DPT)),
            square("DPT", do_pad=True, size_divisor=14)),
        "glpn": (lambda: t.GLPNForDepthEstimation(t.GLPNConfig(
            hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16)), processor("GLPN")),
        "prompt_depth_anything": (lambda: t.PromptDepthAnythingForDepthEstimation(t.PromptDepthAnythingConfig(
            backbone_config=t.Dinov2Config(
                image_size=56, patch_size=14, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
                out_features=STAGES, reshape_hidden_states=False),
            reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, head_hidden_size=8)),
            processor("PromptDepthAnything", size=patches)),
        "tipsv2_depth": (lambda: t.Tipsv2DptForDepthEstimation(t.Tipsv2DptConfig(
            backbone_config=TIPS, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16)),
            processor("Tipsv2Dpt", size=patches)),
        "zoedepth": (lambda: t.ZoeDepthForDepthEstimation(t.ZoeDepthConfig(
            backbone_config=t.BeitConfig(
                image_size=64, patch_size=16, out_features=STAGES, reshape_hidden_states=False,
                use_relative_position_bias=True, **FOUR),
            neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=16, bottleneck_features=16, num_relative_features=8,
            num_attractors=[4, 2, 2, 1], bin_embedding_dim=16,
            bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}])), square("ZoeDepth")),
    }  # fmt: skip
    oneformer = Recipe(
        SEGMENT,
        lambda: t.OneFormerForUniversalSegmentation(t.OneFormerConfig(
            backbone_config=swin(), text_encoder_width=32, text_encoder_num_layers=1, text_encoder_vocab_size=600,
            text_encoder_n_ctx=2, conv_dim=32, mask_dim=32, query_dec_layers=1, **MASKS)),
        processor("OneFormer", size=EDGES, num_text=8, num_labels=7, ignore_index=255),
        words=True,
    )  # fmt: skip
    return {
        **{name: Recipe(SEGMENT, model, processor) for name, (model, processor) in made.items()},
        **{name: Recipe(DEPTH, model, processor) for name, (model, processor) in depth.items()},
        "oneformer": oneformer,
    }
