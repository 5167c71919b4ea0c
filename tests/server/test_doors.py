"""Dedicated endpoints at ports of their own, on one machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from tests.server.simulated_house import PICTURE, House, asked, settled

from saccade.endpoints.endpoint import Plan, Record
from saccade.errors import SetupError
from saccade.server.database import Database
from saccade.server.doors import Doors
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
    assert answer.status_code == 400, answer.text
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


def test_a_port_that_a_stopped_endpoint_is_started_without_is_closed(served: tuple[House, str]) -> None:
    house, key = served
    port = free_port()
    for wish in ({"port": port}, {}):
        asked(house, key, "POST", "/v1/endpoints", {"name": "moves", "model": "cars", "replicas": "1:1", **wish})
        assert settled(house, key, "moves")["state"] == "ready"
        asked(house, key, "PATCH", "/v1/endpoints/moves", {"action": "stop"})
    with pytest.raises(httpx.ConnectError):  # it led to the shared API
        called(f"http://127.0.0.1:{port}", key)
    asked(house, key, "DELETE", "/v1/endpoints/moves")


def test_endpoints_with_ports_of_their_own_are_removed_at_the_same_time(served: tuple[House, str]) -> None:
    house, key = served
    names = [f"many-{number}" for number in range(6)]
    ports = [free_port() for _ in names]
    for name, port in zip(names, ports, strict=True):
        asked(house, key, "POST", "/v1/endpoints", {"name": name, "model": "cars", "port": port})
        settled(house, key, name)
    with ThreadPoolExecutor(len(names)) as operators:
        list(operators.map(lambda name: asked(house, key, "DELETE", f"/v1/endpoints/{name}"), names))
    for port in ports:
        with pytest.raises(httpx.ConnectError):
            called(f"http://127.0.0.1:{port}", key)


def test_a_port_that_was_taken_while_the_server_was_down_is_told_and_opened_again_by_a_start(
    served: tuple[House, str],
) -> None:
    house, key = served
    port = free_port()
    asked(house, key, "POST", "/v1/endpoints", {"name": "shut", "model": "cars", "replicas": "1:1", "port": port})
    settled(house, key, "shut")
    house.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        house.start()
        row = settled(house, key, "shut")
        assert row["state"] == "ready"
        assert f"Port {port} is in use" in row["reason"]
        assert row["url"] == f"{house.url}/endpoints/shut", "the address at which it answers"
        assert '"cars"' in called(row["url"], key).text
        assert f"'shut' cannot be reached at its own port: Port {port} is in use" in house.log()
    for action in ("stop", "start"):
        asked(house, key, "PATCH", "/v1/endpoints/shut", {"action": action})
    row = settled(house, key, "shut")
    assert (row["reason"], row["url"]) == ("", f"http://127.0.0.1:{port}")
    assert '"cars"' in called(row["url"], key).text
    asked(house, key, "DELETE", "/v1/endpoints/shut")


def test_a_port_that_was_taken_is_tried_again_and_again() -> None:
    async def play() -> None:
        tries, over = 0, asyncio.Event()

        def begin(port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise SetupError(f"Port {port} is in use here. Stop the other program.")
            over.set()
            return uvicorn.Server(uvicorn.Config("x:y")), asyncio.create_task(asyncio.sleep(0))

        record = Record(id="1", name="shut", plan=Plan(model="cars", port=7))
        doors = Doors(begin)
        await doors.match([record])
        assert doors.problem(7) == "Port 7 is in use here"
        doors.keep(lambda: [record], retry_s=0.01)
        await asyncio.wait_for(over.wait(), 5)
        assert doors.problem(7) == ""
        await asyncio.sleep(0.05)
        assert tries == 3
        await doors.close()

    asyncio.run(play())


def test_a_port_for_which_the_system_opened_no_file_is_tried_again() -> None:
    """It was never tried again, nor any other that was closed."""
    tries: list[int] = []

    async def serves() -> None: ...

    def begin(port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
        tries.append(port)
        if len(tries) < 3:
            raise OSError(24, "Too many open files")
        return uvicorn.Server(uvicorn.Config("x")), asyncio.create_task(serves())

    async def play() -> None:
        doors, records = Doors(begin), [Record(id="x", name="people", plan=Plan(model="cars", port=5))]
        await doors.match(records)
        assert "open files" in doors.problem(5)
        doors.keep(lambda: records, retry_s=0.01)
        while doors.problem(5):
            await asyncio.sleep(0.01)
        await doors.close()

    asyncio.run(asyncio.wait_for(play(), 5))
    assert tries == [5, 5, 5]


def test_a_port_is_neither_closed_while_its_endpoint_is_made_nor_opened_again_once_that_is_gone() -> None:
    async def play() -> None:
        def begin(port: int) -> tuple[uvicorn.Server, asyncio.Task[None]]:
            opened.append(port)
            server = uvicorn.Server(uvicorn.Config("x:y"))

            async def serving() -> None:
                while not server.should_exit:
                    await asyncio.sleep(0)

            return server, asyncio.create_task(serving())

        opened: list[int] = []
        one, other = (
            Record(id=name, name=name, plan=Plan(model="cars", port=port)) for name, port in (("a", 7), ("b", 8))
        )
        doors = Doors(begin)
        doors.try_port(7)
        with doors.promised(7):
            await doors.match([other])
        await doors.match([one, other])
        assert opened == [7, 8]
        await asyncio.gather(doors.match([other]), doors.match([]), doors.match([]))
        assert opened == [7, 8], "one that was removed meanwhile"
        await doors.close()

    asyncio.run(play())


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


def test_an_endpoint_never_takes_the_port_of_the_server_itself(served: tuple[House, str]) -> None:
    house, key = served
    own = int(house.given["port"])
    assert f"Port {own} is that of this server itself" in refused(house, key, name="greedy", port=own)
    port = free_port()
    asked(house, key, "POST", "/v1/endpoints", {"name": "moved", "model": "cars", "replicas": "1:1", "port": port})
    settled(house, key, "moved")
    house.stop()
    house.given["port"] = port
    try:
        house.start()
        assert asked(house, key, "GET", "/v1/keys")["keys"], "the server answers at its own port"
        row = settled(house, key, "moved")
        assert (row["state"], row["url"]) == ("ready", f"{house.url}/endpoints/moved")
        assert f"Port {port} is that of this server itself" in row["reason"]
        assert '"cars"' in called(row["url"], key).text
        asked(house, key, "DELETE", "/v1/endpoints/moved")
    finally:
        house.stop()
        house.given["port"] = own
        house.start()
