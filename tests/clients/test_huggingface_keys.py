"""Keys and quotas as the users of Hugging Face clients meet them: a real gate, with a key of three calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.houses import Served, canned
from tests.clients.pictures import photo
from tests.clients.test_huggingface_javascript import node
from tests.clients.test_huggingface_python import VERSIONS, client

from saccade.server import keyring
from saccade.server.settings import Settings

pytestmark = pytest.mark.heavy

CALLS = 3


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Served, str]]:
    """A server that knows one key, and the key."""
    home = tmp_path / "house"
    home.mkdir()
    with keyring.opened(Settings(home=str(home))) as keys:
        _, secret = keys.create("laptop", quota_calls=CALLS)
    with canned(home) as house:
        yield house, secret


@pytest.fixture
def picture(tmp_path: Path) -> str:
    (tmp_path / "cats.jpg").write_bytes(photo())
    return str(tmp_path / "cats.jpg")


SCRIPT = """
import json, sys
from huggingface_hub import InferenceClient
url, picture, secret = sys.argv[1:]
found = []
for token in ["hf_wrong", *[secret] * 4]:
    try:
        rows = InferenceClient(token=token).image_classification(
            picture, model=url + "/models/google/vit-base-patch16-224")
        found.append([200, str(len(rows))])
    except Exception as error:
        found.append([error.response.status_code, str(error)])
print(json.dumps(found))
"""


def told(found: list[list[object]], *, secret: str) -> None:
    """The first was a wrong token; three calls were free; the last was one too many."""
    assert [status for status, _ in found] == [401, 200, 200, 200, 429]
    assert "Invalid credentials in Authorization header" in str(found[0][1])
    assert "Rate limit reached" in str(found[-1][1])
    assert secret not in json.dumps(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_item_05_the_python_client_shows_a_wrong_token_and_a_spent_quota(
    guarded: tuple[Served, str], picture: str, version: str
) -> None:
    house, secret = guarded
    found = client(version, SCRIPT, house.url, picture, secret)
    told(found, secret=secret)
    if version == "2.4.0":
        assert f"(0/{CALLS} requests remaining in current 3600s window)" in found[-1][1]
    assert not house.lines(secret)


def test_item_05_the_javascript_client_shows_a_wrong_token_and_a_spent_quota(
    guarded: tuple[Served, str], picture: str
) -> None:
    house, secret = guarded
    script = """
const found = [];
for (const token of ["hf_wrong", more, more, more, more]) {
  try {
    const rows = await new InferenceClient(token).endpoint(url + "/models/google/vit-base-patch16-224")
      .imageClassification({ data: blob });
    found.push([200, String(rows.length)]);
  } catch (error) { found.push([error.httpResponse?.status, error.message]); }
}
console.log(JSON.stringify(found));
"""
    told(node(script, house.url, picture, secret), secret=secret)
