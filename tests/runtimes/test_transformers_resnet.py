"""timm's names of a ResNet's parts and those of transformers. That both networks answer alike was checked by hand: the
numbers of a DETR-ResNet-50 under either naming are equal to the last bit."""

from __future__ import annotations

from typing import Any

import pytest

from saccade.runtimes import transformers_resnet

PLACE = "model.backbone.conv_encoder.model."
TIMMS = {"model_type": "timm_backbone", "backbone": "resnet18"}


@pytest.mark.parametrize(
    ("timm", "ours"),
    [
        ("conv1.weight", "embedder.embedder.convolution.weight"),
        ("bn1.running_var", "embedder.embedder.normalization.running_var"),
        ("layer1.0.conv1.weight", "encoder.stages.0.layers.0.layer.0.convolution.weight"),
        ("layer3.22.bn2.bias", "encoder.stages.2.layers.22.layer.1.normalization.bias"),
        ("layer2.0.downsample.0.weight", "encoder.stages.1.layers.0.shortcut.convolution.weight"),
        ("layer4.0.downsample.1.running_mean", "encoder.stages.3.layers.0.shortcut.normalization.running_mean"),
    ],
)
def test_parts_of_the_backbone_get_their_other_name(timm: str, ours: str) -> None:
    assert transformers_resnet.renamed(PLACE + timm) == PLACE + ours


def test_parts_outside_the_backbone_keep_their_name() -> None:
    assert transformers_resnet.renamed("model.decoder.layers.0.fc1.weight") == "model.decoder.layers.0.fc1.weight"


@pytest.mark.parametrize(
    ("config", "applies"),
    [
        ({"model_type": "detr", "backbone": "resnet50", "use_timm_backbone": True}, True),
        ({"model_type": "detr", "backbone": "resnet101", "use_timm_backbone": True, "dilation": True}, False),
        ({"model_type": "conditional_detr", "backbone_config": TIMMS}, True),
        ({"model_type": "upernet", "backbone_config": TIMMS}, False),
        ({"model_type": "detr", "backbone_config": {"model_type": "resnet"}, "use_timm_backbone": False}, False),
        ({"model_type": "detr", "backbone": "swin_tiny", "use_timm_backbone": True}, False),
        ({"model_type": "vit"}, False),
    ],
)
def test_only_a_resnet_of_timm_is_rewritten(config: dict[str, Any], applies: bool) -> None:
    assert transformers_resnet.applies(config) is applies


def test_the_configuration_names_the_same_network() -> None:
    found = transformers_resnet.rewritten({"backbone": "resnet50", "use_timm_backbone": True, "model_type": "detr"})
    assert found["backbone_config"]["depths"] == [3, 4, 6, 3]
    assert found["backbone_config"]["out_features"] == ["stage1", "stage2", "stage3", "stage4"]
    assert found["use_timm_backbone"] is False
