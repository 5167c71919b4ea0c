"""Dedicated endpoints at ports of their own, on one machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from tests.server.simulated_house import PICTURE, House, asked, settled

from saccade.server.database import Database
from saccade.server.keys import Keys

SHARED = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    """A server and an admin key of it."""
    home = tmp_path_factory.mktemp("doors")
    database = Database("", str(home))
    key = Keys(database).create("admin", scopes=("admin", "models", "endpoints"))[1]
    database.close()
    house = House(home)
    try:
        yield house.start(), key
    finally:
        house.stop()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def called(url: str, key: str, **headers: str) -> httpx.Response:
    sent = {**SHARED, "x-api-key": key, **headers}
    return httpx.post(f"{url}/predict", content=PICTURE, headers=sent, timeout=30, trust_env=False)


def refused(house: House, key: str, **wish: object) -> str:
    answer = httpx.post(
        f"{house.url}/v1/endpoints", json={"model": "cars", **wish}, headers={"x-api-key": key}, trust_env=False
    )
    assert answer.status_code in (400, 500), answer.text
    return str(answer.json()["error"])


def test_an_endpoint_answers_at_its_own_port_also_after_a_restart_and_no_longer_once_it_is_gone(
    served: tuple[House, str],
) -> None:
    house, key = served
    port = free_port()
    asked(house, key, "POST", "/v1/endpoints", {"name": "door", "model": "cars", "replicas": "1:1", "port": port})
    row = settled(house, key, "door")
    assert row["url"] == f"http://127.0.0.1:{port}"
    assert '"cars"' in called(row["url"], key).text
    assert "'door'" in refused(house, key, name="other", port=port)
    house.stop()
    house.start()
    settled(house, key, "door")
    assert '"cars"' in called(row["url"], key).text
    asked(house, key, "DELETE", "/v1/endpoints/door")
    with pytest.raises(httpx.ConnectError):
        called(row["url"], key)


def test_a_port_that_is_in_use_is_refused_and_one_of_an_endpoint_that_never_came_is_free_again(
    served: tuple[House, str],
) -> None:
    house, key = served
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "in use" in refused(house, key, name="late", port=taken.getsockname()[1])
    port = free_port()
    answer = httpx.post(
        f"{house.url}/v1/endpoints",
        json={"name": "lost", "model": "no-such-model", "port": port},
        headers={"x-api-key": key},
        trust_env=False,
    )
    assert answer.status_code == 404
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


def test_a_host_name_belongs_to_one_endpoint(served: tuple[House, str]) -> None:
    house, key = served
    asked(house, key, "POST", "/v1/endpoints", {"name": "named", "model": "birds", "hostname": "birds.example"})
    assert "'named'" in refused(house, key, name="other", hostname="BIRDS.example")


def test_an_own_port_or_host_name_leads_to_no_other_endpoint(served: tuple[House, str]) -> None:
    house, key = served
    port = free_port()
    wish = {"name": "alone", "model": "birds", "replicas": "1:1", "port": port, "hostname": "alone.example"}
    asked(house, key, "POST", "/v1/endpoints", wish)
    asked(house, key, "POST", "/v1/endpoints", {"name": "people", "model": "cars", "replicas": "1:1"})
    settled(house, key, "alone"), settled(house, key, "people")
    own = f"http://127.0.0.1:{port}"
    for url, host in ((own, "x"), (house.url, "alone.example"), (house.url, "Alone.Example.:80")):
        assert called(f"{url}/endpoints/people", key, host=host).status_code == 404, (url, host)
        assert called(f"{url}/endpoints/nobody", key, host=host).status_code == 404, (url, host)
        assert '"birds"' in called(f"{url}/endpoints/alone", key, host=host).text
        assert '"birds"' in called(url, key, host=host).text
    assert '"cars"' in called(f"{house.url}/endpoints/people", key).text
    for name in ("alone", "people"):
        asked(house, key, "DELETE", f"/v1/endpoints/{name}")


def test_an_own_port_asks_for_a_key_as_the_endpoint_does(served: tuple[House, str]) -> None:
    house, key = served
    port = free_port()
    asked(house, key, "POST", "/v1/endpoints", {"name": "kept", "model": "birds", "replicas": "1:1", "port": port})
    url = settled(house, key, "kept")["url"]
    assert (called(url, "wrong").status_code, called(url, key).status_code) == (401, 200)
