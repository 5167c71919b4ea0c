"""``@huggingface/inference`` on Node against our server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import node_folder, run_node
from tests.clients.houses import Served, canned

pytestmark = pytest.mark.heavy

PACKAGE = "@huggingface/inference@4.13.30"
DETR = "facebook/detr-resnet-50"
VIT = "google/vit-base-patch16-224"
M2F = "facebook/mask2former-swin-large-coco-panoptic"
UPERNET = "openmmlab/upernet-convnext-small"

HEAD = """
import { InferenceClient } from "@huggingface/inference";
import { readFileSync } from "node:fs";
const [url, picture, more] = process.argv.slice(1);
const bytes = readFileSync(picture);
const client = new InferenceClient("hf_any");
const at = (path) => client.endpoint(url + path);
const blob = new Blob([bytes], { type: "image/jpeg" });
"""


def node(script: str, *arguments: str) -> Any:
    """What the script prints as JSON."""
    home = node_folder("huggingface-inference-4.13.30", PACKAGE)
    return json.loads(run_node(home, HEAD + script, *arguments))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with canned(tmp_path_factory.mktemp("house"), max_body_bytes=4 << 20, default_model=DETR) as served:
        yield served


def test_item_03_all_three_tasks_make_the_round_trip(house: Served, picture: Path) -> None:
    found = node(
        """
const vit = "/models/google/vit-base-patch16-224", detr = "/models/facebook/detr-resnet-50";
const seg = "/models/facebook/mask2former-swin-large-coco-panoptic";
console.log(JSON.stringify({
  classify: await at(vit).imageClassification({ data: blob }),
  buffer: await at(vit).imageClassification({ data: bytes }),
  call: await client.imageClassification({ data: blob, endpointUrl: url + vit }),
  query: await at(vit + "?top_k=1&function_to_apply=none").imageClassification({ data: blob }),
  detect: await at(detr).objectDetection({ data: blob }),
  threshold: await at(detr + "?threshold=0.3").objectDetection({ data: blob }),
  router: await at("/hf-inference" + detr).objectDetection({ data: blob }),
  segment: await at(seg).imageSegmentation({ inputs: blob }),
  semantic: await at(seg).imageSegmentation({ inputs: blob, parameters: { subtask: "semantic", threshold: 0.1 } }),
}));
""",
        house.url,
        str(picture),
    )
    assert found["classify"] == found["buffer"] == found["call"]
    assert len(found["classify"]) == 3
    assert len(found["query"]) == 1
    assert found["query"][0]["score"] != found["classify"][0]["score"]
    assert [row["label"] for row in found["detect"]] == ["cat", "couch"]
    assert found["router"] == found["detect"]
    assert [row["label"] for row in found["threshold"]] == ["cat", "car", "couch"]
    assert [row["score"] for row in found["segment"]] == [0.986684, 0.93]
    assert all(row["mask"].startswith("iVBORw0KGgo") for row in found["segment"])
    assert [row["score"] for row in found["semantic"]] == [1, 1]


def test_item_04_a_semantic_model_does_not_make_the_client_throw(house: Served, picture: Path) -> None:
    script = """console.log(JSON.stringify(await at("/models/openmmlab/upernet-convnext-small")
      .imageSegmentation({ inputs: blob })));"""
    assert [(row["label"], row["score"]) for row in node(script, house.url, str(picture))] == [
        ("wall", 1),
        ("floor", 1),
    ]


def test_zero_shot_classification_makes_the_round_trip(house: Served, picture: Path) -> None:
    script = """console.log(JSON.stringify(await at("/models/openai/clip-vit-base-patch32").zeroShotImageClassification(
      { inputs: { image: blob }, parameters: { candidate_labels: ["animal", "car", "toy"] } })));"""
    found = node(script, house.url, str(picture))
    assert sorted(row["label"] for row in found) == ["animal", "car", "toy"]


CASES = {
    "wrong token": ("/models/raises/NoKey", "photo", 401, "Invalid credentials in Authorization header"),
    "unknown model": ("/models/no/such", "photo", 404, "Model no/such does not exist"),
    "wrong task": (f"/pipeline/object-detection/{VIT}", "photo", 400, "doesn't support task 'object-detection'"),
    "corrupt image": (f"/models/{VIT}", "text", 400, "cannot identify image file"),
    "bad parameter": (f"/models/{VIT}?top_k=0", "photo", 400, "`top_k` must be a whole number of at least 1"),
    "huge body": (f"/models/{VIT}", "huge", 413, "Payload too large: 5000000 bytes > limit 4194304"),
    "forbidden": ("/models/raises/Forbidden", "photo", 403, "canned text"),
    "rate limit": ("/models/raises/QuotaSpent", "photo", 429, "Rate limit reached. canned text"),
    "bug": ("/models/raises/RunFailed", "photo", 500, "canned text"),
    "late": ("/models/raises/DeadlinePassed", "photo", 504, "timed out"),
}


def test_item_05_every_refusal_reaches_the_user_with_its_text(house: Served, picture: Path) -> None:
    found = node(
        """
const data = { photo: blob, text: new Blob(["no image"]), huge: new Blob(["x".repeat(5000000)]) };
const found = {};
for (const [name, [path, what]] of Object.entries(JSON.parse(more))) {
  try { found[name] = [0, JSON.stringify(await at(path).imageClassification({ data: data[what] }))]; }
  catch (error) { found[name] = [error.httpResponse?.status, error.message, error.httpResponse?.requestId]; }
}
console.log(JSON.stringify(found));
""",
        house.url,
        str(picture),
        json.dumps({name: case[:2] for name, case in CASES.items()}),
    )
    for name, (_, _, status, words) in CASES.items():
        assert found[name][0] == status, found[name]
        assert words in found[name][1], found[name]
        assert found[name][2]


def test_item_12_a_loading_model_makes_exactly_one_request(picture: Path, tmp_path: Path) -> None:
    """At a 503 this client asks again at once and for ever; the call is held instead."""
    script = """console.log(JSON.stringify(await at("/models/slow").imageClassification({ data: blob })));"""
    with canned(tmp_path) as house:
        assert len(node(script, house.url, str(picture))) == 3
        assert len(house.lines("POST", "/models/slow")) == 1


def test_item_12_where_the_operator_wants_503_the_loop_is_slowed_to_one_request_a_second(
    picture: Path, tmp_path: Path
) -> None:
    script = """console.log(JSON.stringify(await at("/models/slow").imageClassification({ data: blob })));"""
    with canned(tmp_path, hf_cold_503=True) as house:
        assert len(node(script, house.url, str(picture))) == 3
        assert 2 <= len(house.lines("POST", "/models/slow")) <= 8


def test_items_15_and_19_streams_arrive_and_tokens_are_not_logged(house: Served, picture: Path) -> None:
    script = """
const parts = [bytes.subarray(0, 99), bytes.subarray(99)];
const stream = new ReadableStream({ start(way) { parts.forEach((part) => way.enqueue(part)); way.close(); } });
const answer = await fetch(url + "/models/facebook/detr-resnet-50", { method: "POST", body: stream, duplex: "half",
  headers: { Authorization: "Bearer hf_tOkEnOfNode" } });
console.log(JSON.stringify(await answer.json()));
"""
    assert len(node(script, house.url, str(picture))) == 2
    assert not house.lines("tOkEnOfNode")
