"""Recipes of detectors, one for each class of ``MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES``."""

from __future__ import annotations

from typing import Any

from zoo_parts import DETECT, DETR, EDGES, HGNET, LABELS, LARGER, STAGES, TEXTS, Recipe, processor, resnet

RT: dict[str, Any] = {
    "d_model": 32, "encoder_hidden_dim": 32, "encoder_in_channels": [32, 64, 128], "feat_strides": [8, 16, 32],
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_in_channels": [32, 32, 32], "decoder_layers": 2,
    "num_queries": 20, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_denoising": 0, **LABELS,
}  # fmt: skip
FINE: dict[str, Any] = {"decoder_n_points": [3, 6, 3], "max_num_bins": 32}
LIGHT: dict[str, Any] = {
    "d_model": 32, "decoder_ffn_dim": 64, "decoder_layers": 2, "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 4, "num_queries": 20, "group_detr": 2, **LABELS,
}  # fmt: skip
WINDOWED: dict[str, Any] = {
    "model_type": "rf_detr_dinov2", "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "image_size": 96, "patch_size": 16, "num_windows": 2, "out_indices": [2, 4],
}  # fmt: skip
ORDER: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "coordinate_size": 6,
    "shape_size": 4,
}  # fmt: skip
SIDES = {"longratio": 7, "midratio": 5, "shortratio": 3}
INTRACLASS: dict[str, Any] = {
    "reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0],
    **{f"vertical_long_to_small_conv_{ratio}": [[n, 1], [1, 1], [n // 2, 0]] for ratio, n in SIDES.items()},
    **{f"horizontal_small_to_long_conv_{ratio}": [[1, n], [1, 1], [0, n // 2]] for ratio, n in SIDES.items()},
    **{f"symmetric_conv_long_{ratio}": [[n, n], [1, 1], [n // 2, n // 2]] for ratio, n in SIDES.items()},
}  # fmt: skip
READER: dict[str, Any] = {
    "neck_out_channels": 32, "intraclass_block_config": INTRACLASS, "scale_factor_list": [1, 2, 4, 8],
    "kernel_list": [3, 2, 2],
}  # fmt: skip


def recipes() -> dict[str, Recipe]:
    import transformers as t

    def hgnet(stages: list[str]) -> Any:
        return t.HGNetV2Config(**HGNET, out_features=stages)

    padded = {"size": {"max_height": 96, "max_width": 96}, "pad_size": LARGER}
    squashed, texts = processor("RTDetr", size=LARGER), processor("PPOCRV5ServerDet", limit_side_len=128)
    made: dict[str, tuple[Any, Any]] = {
        "conditional_detr": (lambda: t.ConditionalDetrForObjectDetection(t.ConditionalDetrConfig(
            backbone_config=resnet(), **DETR)), processor("ConditionalDetr", size=EDGES)),
        "conditional_detr_padded": (lambda: t.ConditionalDetrForObjectDetection(t.ConditionalDetrConfig(
            backbone_config=resnet(), **DETR)), processor("ConditionalDetr", **padded)),
        "d_fine": (lambda: t.DFineForObjectDetection(t.DFineConfig(
            backbone_config=hgnet(STAGES[1:]), **RT, **FINE)), squashed),
        "dab_detr": (lambda: t.DabDetrForObjectDetection(t.DabDetrConfig(
            backbone_config=resnet(), hidden_size=32, **{k: v for k, v in DETR.items() if k != "d_model"})),
            processor("ConditionalDetr", size=EDGES)),
        "deformable_detr": (lambda: t.DeformableDetrForObjectDetection(t.DeformableDetrConfig(
            backbone_config=resnet(out_features=STAGES[1:]), with_box_refine=True, two_stage=False,
            **{**DETR, "decoder_layers": 2})), processor("DeformableDetr", size=EDGES)),
        "deformable_detr_padded": (lambda: t.DeformableDetrForObjectDetection(t.DeformableDetrConfig(
            backbone_config=resnet(out_features=STAGES[1:]), with_box_refine=True, two_stage=False,
            **{**DETR, "decoder_layers": 2})), processor("DeformableDetr", **padded)),
        "deimv2": (lambda: t.Deimv2ForObjectDetection(t.Deimv2Config(
            backbone_config=hgnet(STAGES[1:]), **RT, **FINE)), squashed),
        "deimv2_dinov3": (lambda: t.Deimv2ForObjectDetection(t.Deimv2Config(
            backbone_config=t.DINOv3ViTConfig(
                image_size=96, patch_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
                intermediate_size=64, out_indices=[2, 3, 4], apply_layernorm=False),
            spatial_tuning_adapter_inplanes=8, **{**RT, "encoder_in_channels": [32, 32, 32]}, **FINE)), squashed),
        "lw_detr": (lambda: t.LwDetrForObjectDetection(t.LwDetrConfig(
            backbone_config=t.LwDetrViTConfig(
                hidden_size=32, num_hidden_layers=4, num_attention_heads=4, image_size=96, pretrain_image_size=96,
                num_windows=4, window_block_indices=[0, 2], out_indices=[2, 4]),
            projector_scale_factors=[1.0], **LIGHT)), processor("DeformableDetr", size=LARGER)),
        "pp_doclayout_v2": (lambda: t.PPDocLayoutV2ForObjectDetection(t.PPDocLayoutV2Config(
            backbone_config=hgnet(STAGES[1:]), class_thresholds=[0.5] * 7, class_order=list(range(7)),
            reading_order_config=ORDER, **RT)), processor("PPDocLayoutV2", size=LARGER)),
        "pp_doclayout_v3": (lambda: t.PPDocLayoutV3ForObjectDetection(t.PPDocLayoutV3Config(
            backbone_config=hgnet(STAGES), num_prototypes=8, x4_feat_dim=16, mask_feature_channels=[16, 16], **RT)),
            processor("PPDocLayoutV3", size=LARGER)),
        "pp_doclayout_v4": (lambda: t.PPDocLayoutV4ForObjectDetection(t.PPDocLayoutV4Config(
            backbone_config=hgnet(STAGES[1:]), hidden_size=32, **RT)), processor("PPDocLayoutV4", size=LARGER)),
        "rf_detr": (lambda: t.RfDetrForObjectDetection(t.RfDetrConfig(backbone_config=WINDOWED, **LIGHT)),
            processor("RfDetr", size=LARGER)),
        "detr_padded": (lambda: t.DetrForObjectDetection(t.DetrConfig(
            backbone_config=resnet(), **DETR)), processor("Detr", **padded)),
        "table_transformer": (lambda: t.TableTransformerForObjectDetection(t.TableTransformerConfig(
            backbone_config=resnet(), **DETR)), processor("Detr", size=EDGES)),
    }  # fmt: skip
    readers: dict[str, Any] = {
        "pp_ocrv5_mobile_det": lambda: t.PPOCRV5MobileDetForObjectDetection(t.PPOCRV5MobileDetConfig()),
        "pp_ocrv5_server_det": lambda: t.PPOCRV5ServerDetForObjectDetection(t.PPOCRV5ServerDetConfig(
            backbone_config=hgnet(STAGES), **READER)),
        "pp_ocrv6_medium_det": lambda: t.PPOCRV6MediumDetForObjectDetection(t.PPOCRV6MediumDetConfig(
            backbone_config=hgnet(STAGES), **READER)),
        "pp_ocrv6_small_det": lambda: t.PPOCRV6SmallDetForObjectDetection(t.PPOCRV6SmallDetConfig(
            backbone_config=t.PPLCNetV3Config(scale=0.25, out_features=["stage2", "stage3", "stage4", "stage5"]),
            layer_list_out_channels=[16, 32, 64, 128])),
    }  # fmt: skip
    return {
        **{name: Recipe(DETECT, model, processor) for name, (model, processor) in made.items()},
        **{name: Recipe(TEXTS, model, texts) for name, model in readers.items()},
    }
