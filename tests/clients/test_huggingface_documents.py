"""The programs that Hugging Face's documents print, run as printed but for the host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment, node_folder, run, run_node
from tests.clients.houses import Served, canned
from tests.clients.pictures import noise, photo

pytestmark = pytest.mark.heavy

MODELS = {
    "facebook/detr-resnet-50": 2,
    "google/vit-base-patch16-224": 3,
    "openmmlab/upernet-convnext-small": 2,
    "facebook/mask2former-swin-large-coco-panoptic": 2,
}

PYTHON = """
import json, sys
import requests

API_URL = "https://api-inference.huggingface.co/models/MODEL"
headers = {"Authorization": "Bearer hf_***"}

def query(filename):
    with open(filename, "rb") as f:
        data = f.read()
    response = requests.post(API_URL, headers=headers, data=data)
    return response.json()

output = query("cats.jpg")
print(json.dumps(output))
"""

JAVASCRIPT = """
import fs from "node:fs";
async function query(filename) {
	const data = fs.readFileSync(filename);
	const response = await fetch(
		"https://api-inference.huggingface.co/models/MODEL",
		{
			headers: {
				Authorization: "Bearer hf_***",
				"Content-Type": "application/json",
			},
			method: "POST",
			body: data,
		}
	);
	const result = await response.json();
	return result;
}

query("cats.jpg").then((response) => {
	console.log(JSON.stringify(response));
});
"""

VIT = "google/vit-base-patch16-224"
OLD_HOST = "https://api-inference.huggingface.co"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with canned(tmp_path_factory.mktemp("house"), max_body_bytes=4 << 20) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cats.jpg").write_bytes(photo())
    return tmp_path


def said(folder: Path, *arguments: str) -> str:
    """What curl writes."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def curl(folder: Path, *arguments: str) -> Any:
    return json.loads(said(folder, *arguments))


@pytest.mark.parametrize("model", MODELS)
def test_the_python_program_works_with_another_host(house: Served, folder: Path, model: str) -> None:
    python = environment("huggingface-hub-2.4.0", "huggingface_hub==2.4.0", "pillow", "requests")
    script = PYTHON.replace(OLD_HOST, house.url).replace("MODEL", model).replace("cats.jpg", str(folder / "cats.jpg"))
    assert len(json.loads(run(python, script))) == MODELS[model]


@pytest.mark.parametrize("model", MODELS)
def test_the_javascript_program_works_with_another_host(house: Served, folder: Path, model: str) -> None:
    home = node_folder("huggingface-inference-4.13.30", "@huggingface/inference@4.13.30")
    script = JAVASCRIPT.replace(OLD_HOST, house.url).replace("MODEL", model)
    found = json.loads(run_node(home, script.replace("cats.jpg", str(folder / "cats.jpg"))))
    assert len(found) == MODELS[model]


@pytest.mark.parametrize("model", MODELS)
def test_the_curl_command_works_with_another_host(house: Served, folder: Path, model: str) -> None:
    url = f"{house.url}/models/{model}"
    token = ("-H", "Authorization: Bearer hf_***")
    found = curl(folder, url, "-X", "POST", "--data-binary", "@cats.jpg", *token)
    assert len(found) == MODELS[model]
    for other in (
        ("-X", "POST", "--data-binary", "@cats.jpg", "-H", "Content-Type: image/jpeg"),
        ("-X", "POST", "-T", "cats.jpg"),
        ("-F", "file=@cats.jpg"),
        ("-F", "inputs=@cats.jpg"),
        ("-H", "Transfer-Encoding: chunked", "--data-binary", "@cats.jpg"),
    ):
        assert curl(folder, url, *other, *token) == found


def test_item_15_curl_sends_two_megabytes_after_100_continue(house: Served, folder: Path) -> None:
    (folder / "big.png").write_bytes(noise(900, 800))
    url = f"{house.url}/models/facebook/detr-resnet-50"
    assert len(curl(folder, url, "--data-binary", "@big.png")) == 2
    assert len(curl(folder, url, "--data-binary", "@big.png", "-H", "Expect: 100-continue")) == 2


def test_curl_sends_json_as_a_form(house: Served, folder: Path) -> None:
    import base64

    text = base64.b64encode(photo()).decode()
    (folder / "body.json").write_text(json.dumps({"inputs": text, "parameters": {"threshold": 0.3}}))
    url = f"{house.url}/models/facebook/detr-resnet-50"
    assert len(curl(folder, url, "-d", "@body.json")) == 3
    (folder / "text").write_text(text)
    assert len(curl(folder, url, "--data-binary", "@text")) == 2


ERRORS = {
    "wrong token": ("/models/raises/NoKey", "cats.jpg", 401, "Invalid credentials in Authorization header"),
    "unknown model": ("/models/no/such", "cats.jpg", 404, "Model no/such does not exist"),
    "wrong task": (f"/pipeline/object-detection/{VIT}", "cats.jpg", 400, "doesn't support task"),
    "corrupt image": (f"/models/{VIT}", "text", 400, "cannot identify image file"),
    "bad parameter": (f"/models/{VIT}?top_k=0", "cats.jpg", 400, "`top_k` must be a whole number"),
    "huge body": (f"/models/{VIT}", "huge", 413, "Payload too large: 20000000 bytes > limit 4194304"),
    "loading": ("/models/raises/StillLoading", "cats.jpg", 503, "is currently loading"),
}
"""What is wrong → address, file, status and words of the answer."""

REQUESTS = """
import json, sys
import requests

for url, filename, headers in json.loads(sys.argv[1]):
    with open(filename, "rb") as f:
        response = requests.post(url, headers=headers, data=f.read())
    print(json.dumps([response.status_code, response.json()]))
"""

FETCH = """
import fs from "node:fs";
for (const [url, filename, headers] of JSON.parse(process.argv[1])) {
	const response = await fetch(url, { headers, method: "POST", body: fs.readFileSync(filename) });
	console.log(JSON.stringify([response.status, await response.json()]));
}
"""


@pytest.fixture
def refused(house: Served, folder: Path) -> list[tuple[str, str]]:
    """Address and file of every case."""
    (folder / "text").write_text("no image")
    (folder / "huge").write_bytes(bytes(20_000_000))
    return [(house.url + path, str(folder / name)) for path, name, _, _ in ERRORS.values()]


def check_refusals(found: list[tuple[int, Any]]) -> None:
    for (case, (_, _, status, words)), (seen, body) in zip(ERRORS.items(), found, strict=True):
        assert seen == status, case
        assert words in body["error"], case


def test_refusals_reach_curl_with_status_and_text(refused: list[tuple[str, str]], folder: Path) -> None:
    for more in ((), ("-H", "Expect:"), ("-H", "Connection: close", "-H", "Expect:"), ("-H", "Expect: 100-continue")):
        found = []
        for url, name in refused:
            body, status = said(folder, url, "--data-binary", f"@{name}", "--write-out", "\n%{http_code}", *more).split(
                "\n"
            )
            found.append((int(status), json.loads(body)))
        check_refusals(found)


def test_refusals_reach_requests_with_status_and_text(refused: list[tuple[str, str]]) -> None:
    python = environment("huggingface-hub-2.4.0", "huggingface_hub==2.4.0", "pillow", "requests")
    for headers in ({"Authorization": "Bearer hf_***"}, {"Connection": "close"}):
        said = run(python, REQUESTS, json.dumps([(*case, headers) for case in refused]))
        check_refusals([json.loads(line) for line in said.splitlines()])


def test_refusals_reach_fetch_with_status_and_text(refused: list[tuple[str, str]]) -> None:
    home = node_folder("huggingface-inference-4.13.30", "@huggingface/inference@4.13.30")
    said = run_node(home, FETCH, json.dumps([(*case, {"Authorization": "Bearer hf_***"}) for case in refused]))
    check_refusals([json.loads(line) for line in said.splitlines()])
