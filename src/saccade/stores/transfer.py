"""Bytes from a web server into a file, in pieces that survive a broken line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import requests

from saccade.errors import CorruptFiles, Unreachable

CHUNK = 1 << 16
TIMEOUT_S = (10.0, 60.0)
"""To connect; without a byte."""
ATTEMPTS = 4
"""Attempts without any progress, after which a transfer is given up; what has come stays for the next time."""
PAUSE_S = 0.5
ARCHIVE_LIMIT = 4 << 30
"""Largest archive that is fetched whole, in bytes."""


class NoRanges(Exception):
    """The server sends whole files only."""


Report = Callable[[int, int | None], None]


def part(session: requests.Session, url: str, start: int, stop: int, draft: Path, report: Report) -> None:
    """Bytes ``start`` to ``stop`` of a file, appended to what ``draft`` holds of them already.

    Raises:
        NoRanges: the server does not serve parts.
        Unreachable: the line stays broken.
    """
    total = stop - start

    def again() -> bool:
        have = size(draft)
        if have > total:
            draft.unlink()
            have = 0
        if have == total:
            return True
        wanted = {"Range": f"bytes={start + have}-{stop - 1}", "Accept-Encoding": "identity"}
        with session.get(url, headers=wanted, stream=True, timeout=TIMEOUT_S) as response:
            response.raise_for_status()
            given = response.headers.get("Content-Range", "")
            if response.status_code != 206 or not given.startswith(f"bytes {start + have}-"):
                raise NoRanges
            append(response, draft, have, total, report)
        return size(draft) == total

    insist(again, draft)


def whole(session: requests.Session, url: str, draft: Path, report: Report) -> None:
    """A whole file; goes on where ``draft`` ends if the server can.

    Raises:
        Unreachable: the line stays broken.
        CorruptFiles: it is larger than any model archive.
    """
    done = draft.with_name(draft.name + ".whole")
    if done.exists():
        return

    def again() -> bool:
        have = size(draft)
        wanted = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with session.get(url, headers=wanted, stream=True, timeout=TIMEOUT_S) as response:
            if have and response.status_code != 206:
                # Not able to go on, or nothing left to send: from the start, which a full file survives too.
                draft.unlink()
                return False
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            expected = have + int(length) if length.isdigit() else None
            if max(expected or 0, have) > ARCHIVE_LIMIT:
                raise CorruptFiles(f"The archive is larger than {ARCHIVE_LIMIT >> 30} GB; no model needs that.")
            append(response, draft, have, expected or ARCHIVE_LIMIT, lambda came, _: report(came, expected))
        return expected is None or size(draft) == expected

    insist(again, draft)
    done.touch()


def append(response: requests.Response, draft: Path, have: int, total: int, report: Report) -> None:
    """Writes the body behind what is there; never more than ``total`` bytes in all."""
    with draft.open("ab") as file:
        for chunk in response.iter_content(CHUNK):
            have += len(chunk)
            if have > total:
                raise CorruptFiles("The server sent more bytes than it announced. Try again, or use another index.")
            file.write(chunk)
            report(have, total)


def insist(attempt: Callable[[], bool], draft: Path) -> None:
    """Repeats until the attempt says that all is here; gives up when nothing more comes."""
    idle, furthest = 0, size(draft)
    while True:
        try:
            if attempt():
                return
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            if status < 500 and status != 429:
                raise Unreachable(f"The server of the model's archive answered {status}. Try again later.") from None
        except requests.RequestException:
            pass
        # The furthest ever, or a server that always starts anew and always breaks would be asked for ever.
        idle = 0 if size(draft) > furthest else idle + 1
        furthest = max(furthest, size(draft))
        if idle >= ATTEMPTS:
            raise Unreachable(
                f"The transfer broke off after {size(draft)} bytes and could not be continued. Try again: it goes on "
                "where it stopped."
            )
        time.sleep(PAUSE_S * idle)


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
