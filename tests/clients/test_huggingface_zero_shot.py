"""A converted CLIP and SigLIP behind every Hugging Face client: the pipeline's answers, and refusals in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clients import houses
from tests.clients.houses import Served
from tests.clients.test_huggingface_javascript import node
from tests.clients.test_huggingface_python import VERSIONS, client
from tests.convert.graphs import python, towers

pytestmark = pytest.mark.heavy

NAMES = ("clip", "siglip")
PLAIN = ("0.24.7",)
"""Knows no template, and puts commas between the labels."""


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = towers(data)
    given = {
        "port": 0,
        "models": [str(folder / name) for name in NAMES],
        "torch": str(python()),
        "request_timeout_s": 300,
    }
    with houses.running("tests.clients.checkpoint_house", given, tmp_path_factory.mktemp("house")) as served:
        yield served


def asked(data: Path, *, plain: bool = False) -> list[dict[str, Any]]:
    """What the pipelines were asked about and answered: calls with two labels and more, as the clients want it."""
    return [
        {"model": name, **answer}
        for name in NAMES
        for answer in json.loads((towers(data) / f"{name}.answers").read_text())
        if len(answer["parameters"]["candidate_labels"]) > 1
        and not (plain and "hypothesis_template" in answer["parameters"])
    ]


def alike(found: list[list[dict[str, Any]]], wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted) > 0
    for rows, answer in zip(found, wanted, strict=True):
        assert [row["label"].strip() for row in rows] == [row["label"].strip() for row in answer["entries"]]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in answer["entries"]], abs=1e-4)


PYTHON = """
import json, sys
from huggingface_hub import InferenceClient
client, url = InferenceClient(), sys.argv[1]
found = []
for asked in json.loads(sys.argv[2]):
    labels, *more = asked["parameters"].values()
    words = {"hypothesis_template": more[0]} if more else {}
    words["model"] = url + "/models/" + asked["model"]
    rows = client.zero_shot_image_classification(asked["photo"], labels, **words)
    found.append([{"label": row["label"], "score": row["score"]} for row in rows])
try:
    client.zero_shot_image_classification(
        json.loads(sys.argv[2])[0]["photo"], ["cat", "word " * 90], model=url + "/models/clip")
    said = ""
except Exception as error:
    said = str(error)
print(json.dumps([found, said]))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_python_gets_the_pipelines_answers(house: Served, data: Path, version: str) -> None:
    wanted = asked(data, plain=version in PLAIN)
    found, said = client(version, PYTHON, house.url, json.dumps(wanted))
    alike(found, wanted)
    assert "Bad request" in said
    assert "the model takes 77 at most. Send a shorter label or template." in said


JAVASCRIPT = """
const found = [];
for (const asked of JSON.parse(more)) {
  const image = new Blob([readFileSync(asked.photo)]);
  const { model, parameters } = asked;
  found.push(await at("/models/" + model).zeroShotImageClassification({ inputs: { image }, parameters }));
}
let said = "";
try {
  const parameters = { candidate_labels: [""] };
  await at("/models/clip").zeroShotImageClassification({ inputs: { image: blob }, parameters });
} catch (error) {
  said = error.message + JSON.stringify(error.httpResponse?.body ?? "");
}
console.log(JSON.stringify([found, said]));
"""


def test_javascript_gets_the_pipelines_answers(house: Served, data: Path) -> None:
    wanted = asked(data)
    found, said = node(JAVASCRIPT, house.url, wanted[0]["photo"], json.dumps(wanted))
    alike(found, wanted)
    assert "One of `candidate_labels` is empty." in said


def test_a_plain_upload_names_its_labels_in_the_address(house: Served, data: Path) -> None:
    (wanted,) = [answer for answer in asked(data, plain=True) if answer["model"] == "siglip"][:1]
    labels = wanted["parameters"]["candidate_labels"]
    with httpx.Client(base_url=house.url, trust_env=False, timeout=60) as http:
        photo = Path(wanted["photo"]).read_bytes()
        answer = http.post("/models/siglip", params={"candidate_labels": ",".join(labels)}, content=photo)
        alike([answer.json()], [wanted])
        missing = http.post("/models/siglip", content=photo)
        assert (missing.status_code, missing.json()["error"][:33]) == (400, "`candidate_labels` is missing: th")
        other = http.post("/pipeline/image-classification/siglip", content=photo)
        assert "Supported tasks: 'zero-shot-image-classification'" in other.json()["error"]
        facts = http.get("/models/siglip/info").json()
        assert facts["model_pipeline_tag"] == "zero-shot-image-classification"
