"""``huggingface_hub`` in four generations against our server, each in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment, run
from tests.clients.houses import Served, canned
from tests.clients.pictures import noise

pytestmark = pytest.mark.heavy

VERSIONS = ("2.4.0", "0.34.4", "0.29.3", "0.24.7")
WITH_PARAMETERS = ("2.4.0", "0.34.4", "0.29.3")
"""0.24 knows no parameters for these tasks."""

DETR = "facebook/detr-resnet-50"
VIT = "google/vit-base-patch16-224"
M2F = "facebook/mask2former-swin-large-coco-panoptic"
UPERNET = "openmmlab/upernet-convnext-small"


def client(version: str, script: str, *arguments: str, **variables: str) -> Any:
    """What the script prints as JSON under this version of the client."""
    extra = ("aiohttp",) if version.startswith("0.") else ()
    python = environment(f"huggingface-hub-{version}", f"huggingface_hub=={version}", "pillow", "requests", *extra)
    return json.loads(run(python, script, *arguments, HF_HUB_DISABLE_TELEMETRY="1", **variables))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with canned(tmp_path_factory.mktemp("house"), max_body_bytes=4 << 20, default_model=DETR) as served:
        yield served


ROUND_TRIP = """
import json, sys
from pathlib import Path
from huggingface_hub import InferenceClient
url, picture, with_parameters = sys.argv[1], sys.argv[2], sys.argv[3] == "yes"
vit, detr = url + "/models/google/vit-base-patch16-224", url + "/models/facebook/detr-resnet-50"
seg = url + "/models/facebook/mask2former-swin-large-coco-panoptic"
upernet = url + "/hf-inference/models/openmmlab/upernet-convnext-small"
def row(item):
    found = dict(item)
    if "mask" in found:
        mask = found["mask"]
        found["mask"] = [mask.mode, list(mask.size), sorted({low for low in mask.getdata()})]
    if "box" in found:
        found["box"] = dict(found["box"])
    return found
client = InferenceClient()
data = Path(picture).read_bytes()
found = {
    "classify path": [row(item) for item in client.image_classification(picture, model=vit)],
    "classify bytes": [row(item) for item in client.image_classification(data, model=vit)],
    "detect": [row(item) for item in InferenceClient(model=detr, token="hf_any").object_detection(data)],
    "segment": [row(item) for item in client.image_segmentation(data, model=seg)],
    "semantic": [row(item) for item in client.image_segmentation(data, model=upernet)],
}
if with_parameters:
    found["classify with"] = [row(item) for item in client.image_classification(
        data, model=vit, top_k=1, function_to_apply="none")]
    found["detect with"] = [row(item) for item in client.object_detection(data, model=detr, threshold=0.3)]
    found["segment with"] = [row(item) for item in client.image_segmentation(
        data, model=seg, subtask="semantic", threshold=0.1, mask_threshold=0.2, overlap_mask_area_threshold=0.3)]
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_item_03_all_three_tasks_make_the_round_trip(house: Served, picture: Path, version: str) -> None:
    parameters = version in WITH_PARAMETERS
    found = client(version, ROUND_TRIP, house.url, str(picture), "yes" if parameters else "no")
    assert found["classify path"] == found["classify bytes"]
    assert len(found["classify path"]) == 3
    assert [(row["label"], row["box"]["xmin"], row["box"]["ymax"]) for row in found["detect"]] == [
        ("cat", 6, 32),
        ("couch", 0, 40),
    ]
    assert [(row["score"], row["mask"]) for row in found["segment"]] == [
        (0.986684, ["L", [60, 40], [0, 255]]),
        (0.93, ["L", [60, 40], [0, 255]]),
    ]
    assert [(row["label"], row["score"]) for row in found["semantic"]] == [("wall", 1.0), ("floor", 1.0)]
    if parameters:
        assert len(found["classify with"]) == 1
        assert found["classify with"][0]["score"] != found["classify path"][0]["score"]
        assert [row["label"] for row in found["detect with"]] == ["cat", "car", "couch"]
        assert [row["score"] for row in found["segment with"]] == [1.0, 1.0]


ASYNC = """
import asyncio, json, sys
from pathlib import Path
from huggingface_hub import AsyncInferenceClient
url, picture, with_parameters = sys.argv[1], sys.argv[2], sys.argv[3] == "yes"
vit, detr = url + "/models/google/vit-base-patch16-224", url + "/models/facebook/detr-resnet-50"
seg = url + "/models/facebook/mask2former-swin-large-coco-panoptic"
async def main():
    client, data = AsyncInferenceClient(token="hf_any"), Path(picture).read_bytes()
    more = [client.object_detection(data, model=detr, threshold=0.3)] if with_parameters else []
    calls = [client.image_classification(picture, model=vit), client.object_detection(data, model=detr),
             client.image_segmentation(data, model=seg), *more]
    found = [[row.label for row in rows] for rows in await asyncio.gather(*calls)]
    try:
        await client.image_classification(b"no image", model=vit)
    except Exception as error:
        said = [getattr(error, name, "") for name in ("server_message", "response_error_payload")]
        found.append(f"{error} {said}")
    print(json.dumps(found))
asyncio.run(main())
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_item_03_the_asynchronous_client_makes_the_round_trip(house: Served, picture: Path, version: str) -> None:
    parameters = version in WITH_PARAMETERS
    *found, refused = client(version, ASYNC, house.url, str(picture), "yes" if parameters else "no")
    assert len(found[0]) == 3
    assert found[1:] == [["cat", "couch"], ["wall", "floor"], *([["cat", "car", "couch"]] if parameters else [])]
    assert "cannot identify image file" in refused


ZERO_SHOT = """
import json, sys
from huggingface_hub import InferenceClient
url, picture = sys.argv[1:]
found = InferenceClient().zero_shot_image_classification(
    picture, ["animal", "car", "toy"], model=url + "/models/openai/clip-vit-base-patch32")
print(json.dumps([[item.label, item.score] for item in found]))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_zero_shot_classification_makes_the_round_trip(house: Served, picture: Path, version: str) -> None:
    found = client(version, ZERO_SHOT, house.url, str(picture))
    assert sorted(label for label, _ in found) == ["animal", "car", "toy"]
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


PAGES = """
import json, sys
from huggingface_hub import InferenceClient
url = sys.argv[1]
client, vit = InferenceClient(provider="hf-inference"), url + "/models/google/vit-base-patch16-224"
found = {"health": client.health_check(vit), "info": client.get_endpoint_info(model=vit),
         "root": client.health_check(url), "root info": client.get_endpoint_info(model=url),
         "detect": len(InferenceClient(base_url=url).object_detection(sys.argv[2]))}
print(json.dumps(found))
"""


@pytest.mark.parametrize("version", ["2.4.0", "0.34.4", "0.29.3"])
def test_item_02_health_info_and_the_root_answer_the_client(house: Served, picture: Path, version: str) -> None:
    found = client(version, PAGES, house.url, str(picture))
    assert found["health"] is True
    assert found["root"] is True
    assert found["info"]["model_id"] == VIT
    assert isinstance(found["root info"], dict)
    assert found["detect"] == 2


LISTS = """
import json, sys
from huggingface_hub import InferenceClient
client = InferenceClient()
status = client.get_model_status("google/vit-base-patch16-224")
print(json.dumps([status.loaded, status.state, status.compute_type, status.framework,
                  client.list_deployed_models("transformers")]))
"""


def test_old_clients_ask_for_status_and_lists_through_their_environment_variable(house: Served) -> None:
    found = client("0.24.7", LISTS, HF_INFERENCE_ENDPOINT=house.url)
    assert found[:4] == [True, "Loaded", "cpu", "transformers"]
    assert DETR in found[4]["object-detection"]


def test_a_model_id_reaches_us_through_the_old_environment_variable(house: Served, picture: Path) -> None:
    script = """
import json, sys
from huggingface_hub import InferenceClient
print(json.dumps([item.label for item in InferenceClient(token="hf_x").object_detection(
    sys.argv[1], model="facebook/detr-resnet-50")]))
"""
    assert client("0.24.7", script, str(picture), HF_INFERENCE_ENDPOINT=house.url) == ["cat", "couch"]


ERRORS = """
import json, sys
from huggingface_hub import InferenceClient
url, picture, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
found = {}
for name, (path, data, parameters) in cases.items():
    image = picture if data is None else data.encode() * (5_000_000 if data == "x" else 1)
    try:
        InferenceClient(timeout=20, token="hf_wrong").image_classification(image, model=url + path, **parameters)
        found[name] = None
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        found[name] = [[kind.__name__ for kind in type(error).__mro__], status, str(error)]
print(json.dumps(found))
"""

CASES: dict[str, tuple[str, str | None, dict[str, object], int, str]] = {
    "wrong token": ("/models/raises/NoKey", None, {}, 401, "Invalid credentials in Authorization header"),
    "unknown model": ("/models/no/such", None, {}, 404, "Model no/such does not exist"),
    "wrong task": (f"/pipeline/object-detection/{VIT}", None, {}, 400, "doesn't support task 'object-detection'"),
    "corrupt image": (f"/models/{VIT}", "no image", {}, 400, "cannot identify image file"),
    "bad parameter": (f"/models/{VIT}", None, {"top_k": 0}, 400, "`top_k` must be a whole number of at least 1"),
    "huge body": (f"/models/{VIT}", "x", {}, 413, "Payload too large: 5000000 bytes > limit 4194304"),
    "forbidden": ("/models/raises/Forbidden", None, {}, 403, "canned text"),
    "rate limit": ("/models/raises/QuotaSpent", None, {}, 429, "Rate limit reached. canned text"),
    "bug": ("/models/raises/RunFailed", None, {}, 500, "canned text"),
    "late": ("/models/raises/DeadlinePassed", None, {}, 504, "timed out"),
}
BUSY: dict[str, tuple[str, str | None, dict[str, object], int, str]] = {
    "busy": ("/models/raises/Overloaded", None, {}, 503, "Model too busy, unable to get response in less than"),
    "loading": ("/models/raises/StillLoading", None, {}, 503, "Model raises/StillLoading is currently loading"),
}
"""Clients before 0.29 ask again and again at a 503, so these are for newer ones."""


@pytest.mark.parametrize("version", VERSIONS)
def test_item_05_every_refusal_reaches_the_user_with_its_text(house: Served, picture: Path, version: str) -> None:
    cases = {**CASES, **(BUSY if version != "0.24.7" else {})}
    if version not in WITH_PARAMETERS:
        del cases["bad parameter"]
    asked = {name: case[:3] for name, case in cases.items()}
    found = client(version, ERRORS, house.url, str(picture), json.dumps(asked))
    for name, (_, _, _, status, words) in cases.items():
        kinds, seen, text = found[name]
        assert seen == status, (name, text)
        assert words in text, name
        assert "HfHubHTTPError" in kinds
        if status == 400:
            assert kinds[0] == "BadRequestError"
            assert "Bad request:" in text
    if version == "2.4.0":
        assert "Retry after 55 seconds (0/500 requests remaining in current 300s window)" in found["rate limit"][2]


def test_a_two_megabyte_upload_with_parameters_makes_the_round_trip(house: Served, tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(noise(900, 800))
    script = """
import json, sys
from huggingface_hub import InferenceClient
print(json.dumps(len(InferenceClient().object_detection(sys.argv[2], model=sys.argv[1], threshold=0.3))))
"""
    assert client("2.4.0", script, f"{house.url}/models/{DETR}", str(tmp_path / "big.png")) == 3
