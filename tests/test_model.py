"""A model whose sidecar does not fit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saccade.call import Options
from saccade.errors import UnsupportedModel
from saccade.model import Model
from saccade.ops.resize import Frame
from saccade.results import Masks
from saccade.runtimes.session import Compute
from saccade.stores.local import Local
from stores.toy import onnx_file


@pytest.mark.parametrize("family", ["detr", "rtdetr"])
def test_a_family_that_cannot_read_the_graph_says_what_it_was_given(tmp_path: Path, family: str) -> None:
    pytest.importorskip("openvino")
    onnx_file(tmp_path / "m.onnx", hw=(64, 64))
    (tmp_path / "m.toml").write_text(f"family = '{family}'\ntask = 'detect'\nlabels = ['cat']\n")
    card = Local([tmp_path]).find("m")
    assert card is not None
    model = Model(card, Compute(precision="f32", lone=False, shapes=0))
    told = rf"'m' answers with .*which its family '{family}' cannot read\. Check the family"
    try:
        with pytest.raises(UnsupportedModel, match=told):
            model.predict(np.zeros((64, 64, 3), np.uint8))
    finally:
        model.close()


def test_a_segmenter_answers_only_the_classes_that_are_wanted(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    onnx_file(tmp_path / "m.onnx", outputs=((1, 3, 8, 8),), hw=(8, 8))
    (tmp_path / "m.toml").write_text("family = 'semantic'\ntask = 'segment'\nlabels = ['wall', 'sky', 'sea']\n")
    card = Local([tmp_path]).find("m")
    assert card is not None
    model = Model(card, Compute(precision="f32", lone=False, shapes=0))
    thirds = np.eye(3, dtype=np.float32)[None, :, None, :]
    try:
        found = model.read([thirds], Frame((1, 3), (8, 8)), Options(classes=(2, 1)))
    finally:
        model.close()
    assert isinstance(found, Masks)
    assert found.names == ("sky", "sea")
