"""Cameras to frames, through OpenCV: streams by their address (FFmpeg), cameras of this machine by number or device.

A thread of its own takes every picture that a camera sends and keeps the newest alone, so that who looks slowly never
lags behind and memory never grows. A camera that falls silent is let go, with its thread and its decoder, and connected
again. FFmpeg may hang where nothing can wake it, as in the look-up of a name; such a thread is left to itself, and ends
when FFmpeg does.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import cv2
import numpy as np

from saccade.errors import RunFailed
from saccade.media.video import USUAL_FPS, VideoWriter
from saccade.results import ByteArray

SILENCE_S: Final = 10.0
"""How long no picture may come until a connection is let go."""
PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait before each further connection; the last is that of all others."""
FAREWELL_S: Final = 0.5
"""How long a thread is given to end."""
ENDED: Final = 300
"""Failures in a row, within a second and without a picture, after which nothing more will come: what cannot be decoded
fails as well, but no faster than a camera sends."""
MOST_LEFT: Final = 4
"""Connections that hang in FFmpeg at one time, beyond which no other is made."""
THREADS: Final = 2
"""Of the decoder: each holds a picture back, and one alone may be too slow for 4K."""

FORMATS: Final = (
    "rtsp,rtp,flv,live_flv,mpjpeg,mjpeg,h264,hevc,m4v,mpegts,mpeg,mpegvideo,matroska,webm,mov,mp4,avi,asf,gif"
)
"""What cameras send, and of files all that videos are accepted in: nothing that names other files or addresses, as
playlists do."""
PROTOCOLS: Final = "rtsp,rtsps,rtmp,rtmps,rtmpt,ffrtmphttp,srt,srtp,rtp,tcp,tls,udp,file"
"""What FFmpeg may open: what cameras speak, and the file of a video that was saved, to see whether it is whole."""
CAPTURE_OPTIONS: Final = f"rtsp_flags;prefer_tcp|format_whitelist;{FORMATS}|protocol_whitelist;{PROTOCOLS}"
"""The first is what OpenCV asks of FFmpeg when nothing is set here: RTSP over TCP."""

Address = int | str
"""A camera's number or device on this machine, or the address of a stream."""


def shown(address: Address) -> str:
    """The address without what may be secret: user and password, values in the query or path, the fragment."""
    scheme, mark, rest = str(address).partition("://")
    if not mark:
        return scheme
    place, asked, query = rest.rpartition("@")[2].partition("#")[0].partition("?")
    place = re.sub(r"=[^/]*", "=…", place)
    names = "&".join(f"{part.partition('=')[0]}=…" if "=" in part else "…" for part in query.split("&"))
    return f"{scheme.lower()}://{place}{asked}{names if asked else ''}"


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: ``number`` counts from 0 all that the camera sent, ``at`` is when it came, as of ``time.time``.

    ``image_rgb`` is upright RGB (h, w, 3).
    """

    number: int
    at: float
    image_rgb: ByteArray


class Camera:
    """The newest pictures of a camera; a context manager, for one thread.

    What happens to the connection is told to ``tell``, a sentence each, from the thread that walks. The first camera
    of a process decides what FFmpeg may open and read in it from then on: cameras, and videos without playlists.
    """

    def __init__(self, address: Address, tell: Callable[[str], None], stride: int = 1) -> None:
        if stride < 1:
            raise ValueError(f"stride is {stride}; it is at least 1")
        os.putenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", CAPTURE_OPTIONS)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it writes addresses with their passwords
        self._address = address
        self._name = shown(address)
        self._tell = tell
        self._stride = stride
        self._left: list[_Connection] = []

    def shots(self) -> Iterator[Shot | None]:
        """The newest picture whenever one is asked for, each once, at most every ``stride``-th that the camera sent;
        None at least once a second while there is no new one. It ends never.

        Raises: RunFailed when the first connection brings no picture.
        """
        number, failures = 0, 0
        while True:
            connection = self._connect(number)
            began = time.monotonic()
            while (silent := time.monotonic() - max(began, connection.last)) < SILENCE_S:
                shot = connection.newest(min(1.0, SILENCE_S - silent))
                if shot is None and connection.over:
                    break
                if failures and connection.count > number:
                    self._tell(f"{self._name} is back.")
                    failures = 0
                yield shot
            what = "ended the connection" if connection.over else f"sent no picture for {SILENCE_S:g} s"
            connection.let_go(FAREWELL_S)
            if connection.count == 0:
                raise RunFailed(_unreached(self._name, connection))
            if connection.count == number:
                what = "is not back"
            number = connection.count
            pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            failures += 1
            self._tell(f"{self._name} {what}. Connecting again in {pause:g} s.")
            yield from _rest(pause)
            while sum(left.hangs for left in self._left) >= MOST_LEFT:
                yield from _rest(1.0)

    def close(self) -> None:
        """Lets the camera go, and waits a moment for its thread."""
        for connection in reversed(self._left):
            connection.let_go(FAREWELL_S if connection is self._left[-1] else 0)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _connect(self, number: int) -> _Connection:
        connection = _Connection(self._address, number, self._stride)
        self._left = [*(left for left in self._left if left.hangs), connection]
        return connection


def _rest(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while (rest := until - time.monotonic()) > 0:
        time.sleep(min(1.0, rest))
        yield None


def _unreached(name: str, connection: _Connection) -> str:
    """Why there is not one picture, and what to do."""
    if "://" not in name:
        return (
            f"The camera {name} of this machine gives no picture. Look whether it is plugged in, whether another "
            "program uses it, and whether you may open it (on Linux: ls -l /dev/video*)."
        )
    if connection.opened:
        return f"{name} answers, but no picture that can be decoded came within {SILENCE_S:g} s. Look at its codec."
    return (
        f"{name} could not be opened. It may be switched off or not reachable from here, ask for another user or "
        "password, or have no video behind this address. Check the address; user and password stand in it as "
        "rtsp://USER:PASSWORD@HOST/…, with %40 for @, %2F for / and %3F for ?."
    )


class _Connection:
    """A thread with one decoder, which ends with it."""

    def __init__(self, address: Address, count: int, stride: int) -> None:
        self.count = count
        self.last = 0.0
        """When the last picture came, as of ``time.monotonic``."""
        self.opened = False
        self.over = False
        """Whether nothing will come any more."""
        self._address = address
        self._stride = stride
        self._news = threading.Condition()
        self._kept: tuple[int, float, cv2.typing.MatLike] | None = None
        self._unwanted = False
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether its thread is still there."""
        return self._thread.is_alive()

    def newest(self, patience_s: float) -> Shot | None:
        """The newest picture that nobody has had; None when none came in time, or none will."""
        with self._news:
            self._news.wait_for(lambda: self._kept is not None or self.over, patience_s)
            kept, self._kept = self._kept, None
        if kept is None:
            return None
        number, at, bgr = kept
        return Shot(number, at, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))

    def let_go(self, patience_s: float) -> None:
        """Ends the thread, unless it hangs: then it ends later."""
        self._unwanted = True
        self._thread.join(patience_s)

    def _run(self) -> None:
        capture = cv2.VideoCapture()
        try:
            _open(capture, self._address)
            self.opened = capture.isOpened()
            if self.opened:
                self._take(capture)
        except cv2.error:
            pass  # it is over, which is all that can be said
        finally:
            with self._news:
                self.over = True
                self._news.notify()
            capture.release()

    def _take(self, capture: cv2.VideoCapture) -> None:
        failed, since = 0, time.monotonic()
        while not self._unwanted:
            if not capture.grab():
                failed += 1
                if failed == ENDED and time.monotonic() - since < 1:
                    return
                if failed == ENDED:
                    failed, since = 0, time.monotonic()
                continue
            at = time.time()
            wanted = (self.count + 1) % self._stride == 0
            found, bgr = capture.retrieve() if wanted else (True, None)
            with self._news:
                self.last = since = time.monotonic()
                self.count += 1
                failed = 0
                if found and bgr is not None and not self._unwanted:
                    self._kept = (self.count - 1, at, bgr)
                    self._news.notify()


def _open(capture: cv2.VideoCapture, address: Address) -> None:
    """Opens it; only FFmpeg knows how to be told how long it may take."""
    if isinstance(address, int):
        capture.open(address)
    elif "://" not in address:
        capture.open(address, cv2.CAP_V4L2)
    else:
        scheme, _, rest = address.partition("://")
        patience_ms = max(1, round(SILENCE_S * 1000))
        choices = (
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience_ms),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience_ms),
            *(cv2.CAP_PROP_N_THREADS, THREADS),
        )
        capture.open(f"{scheme.lower()}://{rest}", cv2.CAP_FFMPEG, choices)


class LiveWriter(VideoWriter):
    """A video of a camera, which lasts as long in it as on the clock on the wall: a picture stays until the next comes,
    and of those that come too fast some are left out. It is kept also when it is interrupted, its usual end.
    """

    def __init__(self, path: Path, fps: float = USUAL_FPS) -> None:
        super().__init__(path, fps)
        self._began = 0.0
        self._last: ByteArray | None = None

    def live(self, rgb: ByteArray | None) -> None:
        """Adds a picture that came just now, or, with None, goes on showing the last one.

        Raises: BadSettings when the file cannot be written.
        """
        now = time.monotonic()
        if self._last is None:
            self._began = now
        due = int((now - self._began) * self._fps)
        while self._last is not None and self._count < due:
            self.write(self._last)
        self._last = self._last if rgb is None else rgb
        if self._last is not None and self._count == due:
            self.write(self._last)

    def close(self, *, keep: bool = True) -> None:
        """Puts the file into its place, with the last picture until now."""
        try:
            if keep:
                self.live(None)
        finally:
            self._last = None
            super().close(keep=keep)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
