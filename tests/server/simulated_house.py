"""``saccade serve`` with simulated devices instead of models: ``python simulated_house.py '{"port": 0, ...}'``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from saccade.card import Card
from saccade.errors import UnknownModel
from saccade.server import settings
from saccade.server.run import serve

PICTURE = b"P6\n4 4\n255\n" + bytes([100]) * 48
DEVICES: dict[str, Any] = {
    "cars": {"ms": 1},
    "birds": {"ms": 1},
    "slow": {"ms": 400, "parallel": 1},
    "broken": {"corrupt": True},
}
CLIENT = httpx.Client(trust_env=False, verify=False, timeout=30)
"""Certificates take long to read, and nobody here has one."""


class House:
    """A server process; ``url`` is known once it is ready."""

    def __init__(self, home: Path, **given: Any) -> None:
        self._home, self.given = home, given
        self.child: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> House:
        self._home.mkdir(exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}
        given = {"port": 0, "home": str(self._home), "isolate": False, "threads": 1, "devices": DEVICES, **self.given}
        self.child = subprocess.Popen(
            [sys.executable, __file__, json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=(self._home / "log").open("a"),
            text=True,
            env=environ,
        )
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line.startswith("saccade ready on "), (self._home / "log").read_text()[-2000:]
        self.url = line.split()[-1]
        self.given["port"] = int(self.url.rpartition(":")[2])
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)
            self.child.wait(20)

    def log(self) -> str:
        return (self._home / "log").read_text()


def asked(house: House, key: str, method: str, path: str, body: object = None) -> Any:
    answer = CLIENT.request(method, house.url + path, headers={"x-api-key": key}, json=body)
    assert answer.is_success, answer.text
    return answer.json()


def settled(house: House, key: str, name: str) -> Any:
    for _ in range(300):
        row = asked(house, key, "GET", f"/v1/endpoints/{name}")
        if row["state"] in ("ready", "stopped", "failed"):
            return row
        time.sleep(0.05)
    raise AssertionError("the endpoint never settled")


def predicted(house: House, key: str, name: str, program: str = "hub") -> httpx.Response:
    """HUB's own request."""
    headers = {"x-api-key": key, "user-agent": program}
    return CLIENT.post(f"{house.url}/endpoints/{name}/", headers=headers, files={"file": ("a.ppm", PICTURE)})


class Devices:
    """A library of devices that need so many milliseconds."""

    def __init__(self, **behaviours: dict[str, Any]) -> None:
        self._cards = {
            name: Card(
                name=name,
                task="detect",
                family="simulated",
                runtime="simulated",
                labels={0: name},
                revision=name,
                config={"simulated": behaviour},
            )
            for name, behaviour in behaviours.items()
        }

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        if ref not in self._cards:
            raise UnknownModel(f"There is no model '{ref}'.")
        return self._cards[ref]

    def cards(self) -> list[Card]:
        return list(self._cards.values())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    devices = given.pop("devices")
    serve(settings.load(given, {}), library=Devices(**devices))
