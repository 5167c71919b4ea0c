"""Of a camera the newest picture counts; one that is gone is connected again, and nobody is told its password."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from rtsp import HEIGHT, WIDTH, RtspCamera, number_of
from saccade.errors import BadInput, RunFailed
from saccade.media import camera, frames, length, reel
from saccade.media.camera import Camera, LiveWriter, Shot, shown


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "SILENCE_S", 1.5)
    monkeypatch.setattr(camera, "PAUSES_S", (0.05, 0.1, 0.2))


@pytest.fixture
def sender() -> Iterator[RtspCamera]:
    with RtspCamera() as found:
        yield found


def seen(source: Camera) -> Iterator[Shot]:
    """The pictures alone; fails where none comes for long."""
    began = time.monotonic()
    for shot in source.shots():
        if shot is not None:
            began = time.monotonic()
            yield shot
        assert time.monotonic() - began < 10, "no picture came"


def unsaid(sentence: str) -> None:
    raise AssertionError(sentence)


def patiently(what: Callable[[], bool], seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_pictures_come_upright_and_red_is_red(sender: RtspCamera) -> None:
    with Camera(sender.address(), unsaid) as source:
        shot = next(seen(source))
    assert (shot.image_rgb.shape, shot.image_rgb.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(shot.image_rgb[-8, 8].astype(int) - (220, 20, 20)).max() < 10
    assert abs(shot.at - time.time()) < 2


def test_who_looks_slowly_sees_the_newest_picture_each_once(sender: RtspCamera) -> None:
    with Camera(sender.address(), unsaid) as source:
        walk = seen(source)
        numbers = [next(walk).number]
        for _ in range(5):
            time.sleep(0.2)
            sent = sender.sent
            shot = next(walk)
            assert shot.number == number_of(shot.image_rgb)
            assert shot.number >= sent - 4
            numbers.append(shot.number)
        numbers += [next(walk).number for _ in range(5)]
    assert numbers == sorted(set(numbers))


def test_a_stride_leaves_out_what_the_camera_sent_in_between(sender: RtspCamera) -> None:
    with Camera(sender.address(), unsaid, stride=5) as source:
        numbers = [shot.number for shot, _ in zip(seen(source), range(6), strict=False)]
    assert [number % 5 for number in numbers] == [4] * 6
    assert len(set(numbers)) == 6
    with pytest.raises(ValueError, match="stride"):
        Camera(sender.address(), unsaid, stride=0)


def test_a_lost_connection_is_made_again_and_told(sender: RtspCamera) -> None:
    told: list[str] = []
    with Camera(sender.address("me:secret"), told.append) as source:
        walk = seen(source)
        before = next(walk).number
        sender.drop()
        patiently(lambda: next(walk).number > before and sender.connections == 2)
        patiently(lambda: bool(next(walk)) and len(told) == 2)
    name = sender.address()
    assert told == [f"{name} ended the connection. Connecting again in 0.05 s.", f"{name} is back."]


def test_a_camera_that_falls_silent_is_let_go_and_connected_again(sender: RtspCamera) -> None:
    told: list[str] = []
    with Camera(sender.address(), told.append) as source:
        for shot in source.shots():
            if shot is not None and not told:
                sender.silent = True
            if told:
                sender.silent = False
            if sender.connections == 2 and shot is not None and len(told) > 1:
                break
    assert told[0] == f"{sender.address()} sent no picture for 1.5 s. Connecting again in 0.05 s."
    assert told[1].endswith("is back.")


def test_while_a_camera_is_away_the_pauses_grow_and_its_return_ends_them(sender: RtspCamera) -> None:
    told: list[str] = []
    with Camera(sender.address(), told.append) as source:
        for shot in source.shots():
            if shot is not None:
                sender.away = len(told) < 4
                if sender.away:
                    sender.drop()
                elif len(told) > 4:
                    break
            sender.away = len(told) < 4
    pauses = [sentence.rpartition(" in ")[2] for sentence in told]
    assert pauses[:4] == ["0.05 s.", "0.1 s.", "0.2 s.", "0.2 s."]
    assert "is not back" in told[1]
    assert told[4].endswith("is back.")


def test_the_decoder_and_the_thread_go_with_the_old_connection(sender: RtspCamera) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/task").exists():
        pytest.skip("counts as Linux does")
    counts = []
    with Camera(sender.address(), lambda sentence: None) as source:
        walk = seen(source)
        for number in range(1, 7):
            patiently(lambda number=number: bool(next(walk)) and sender.connections == number)  # type: ignore[misc]
            counts.append(held())
            sender.drop()
    assert max(tasks for tasks, _ in counts[2:]) <= counts[1][0] + 2
    assert max(files for _, files in counts[2:]) <= counts[1][1] + 3


@pytest.mark.parametrize("login", ["me:secret", "me:p@ss/w?rd"])
def test_a_password_opens_the_door_also_with_signs_that_addresses_do_not_have(login: str) -> None:
    typed = login.replace("@", "%40").replace("/", "%2F").replace("?", "%3F")
    with (
        RtspCamera(login=login) as sender,
        Camera(sender.address(typed).replace("rtsp", "RTSP"), unsaid) as source,
    ):
        assert next(seen(source)).image_rgb.any()


def test_a_wrong_password_is_told_and_stands_in_no_sentence() -> None:
    with (
        RtspCamera(login="me:secret") as sender,
        Camera(sender.address("me:wrong"), unsaid) as source,
        pytest.raises(RunFailed, match="ask for another user or password") as caught,
    ):
        list(source.shots())
    assert caught.value.message.startswith(f"rtsp://127.0.0.1:{sender.port}/live could not be opened")
    assert "wrong" not in caught.value.message


def test_a_camera_that_cannot_be_reached_is_told_at_once_with_what_to_look_at(sender: RtspCamera) -> None:
    sender.__exit__(None, None, None)
    with Camera(sender.address("me:secret"), unsaid) as source, pytest.raises(RunFailed, match="not reachable"):
        next(source.shots())


def test_pictures_that_cannot_be_decoded_yet_are_waited_for(sender: RtspCamera) -> None:
    sender.blurred = True
    threading.Timer(0.7, setattr, (sender, "blurred", False)).start()
    with Camera(sender.address(), unsaid) as source:
        assert next(seen(source)).image_rgb.any()


def test_a_camera_without_a_picture_is_told_in_time(sender: RtspCamera) -> None:
    sender.silent = True
    began = time.monotonic()
    with Camera(sender.address(), unsaid) as source, pytest.raises(RunFailed, match=r"127\.0\.0\.1"):
        list(source.shots())
    assert 1 < time.monotonic() - began < 3


def test_what_a_stream_says_leads_ffmpeg_nowhere_else() -> None:
    lure = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 46000 RTP/AVP 26\r\n"

    def answer(door: socket.socket) -> None:
        with suppress(OSError), door.accept()[0] as caller:
            caller.sendall(lure.encode())

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=answer, args=(door,), daemon=True).start()
        with (
            Camera(f"tcp://127.0.0.1:{door.getsockname()[1]}", unsaid) as source,
            pytest.raises(RunFailed, match="could not be opened"),
        ):
            list(source.shots())


def test_videos_are_read_as_before_beside_a_camera(sender: RtspCamera, tmp_path: Path) -> None:
    with Camera(sender.address(), unsaid) as source:
        picture = next(seen(source)).image_rgb
        for suffix in (".mp4", ".webm", ".avi"):
            with LiveWriter(tmp_path / f"clip{suffix}") as writer:
                writer.live(picture)
        Image.fromarray(picture).save(tmp_path / "clip.gif")
        for path in tmp_path.iterdir():
            assert len(list(frames(path.read_bytes()))) == 1


class Stand:
    """In the place of ``cv2.VideoCapture``: a camera of this machine, which sends what a test has it send."""

    asked: tuple[object, ...] = ()
    released = 0

    def __init__(self) -> None:
        self.grabs = 0

    def open(self, *asked: object) -> None:
        Stand.asked = asked

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self.grabs += 1
        time.sleep(0.01)
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), (0, 0, 200), np.uint8)

    def release(self) -> None:
        Stand.released += 1


def test_a_connection_that_fell_silent_goes_with_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Stand):
        def grab(self) -> bool:
            return super().grab() and self.grabs == 1

    monkeypatch.setattr(camera, "SILENCE_S", 0.1)
    monkeypatch.setattr(cv2, "VideoCapture", Quiet)
    told: list[str] = []
    before, until = Stand.released, time.monotonic() + 10
    with Camera(0, told.append) as source:
        for _ in source.shots():
            if len(told) > 10 or time.monotonic() > until:
                break
    assert Stand.released - before == sum("Connecting" in sentence for sentence in told)
    assert "camera" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize(("address", "asked"), [(0, (0,)), ("/dev/video0", ("/dev/video0", cv2.CAP_V4L2))])
def test_a_camera_of_this_machine_is_asked_for_by_its_number_or_device(
    address: int | str, asked: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Stand)
    before = Stand.released
    with Camera(address, unsaid) as source:
        assert next(seen(source)).image_rgb[0, 0].tolist() == [200, 0, 0]
    assert (Stand.asked, Stand.released) == (asked, before + 1)


def test_a_camera_of_this_machine_that_is_not_there_is_told() -> None:
    with Camera(97, unsaid) as source, pytest.raises(RunFailed, match="camera 97 of this machine"):
        list(source.shots())


def test_a_connection_that_hangs_holds_up_neither_the_watch_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "SILENCE_S", 0.5)
    gate = threading.Event()

    class Hanging(Stand):
        def open(self, *asked: object) -> None:
            gate.wait(20)

    monkeypatch.setattr(cv2, "VideoCapture", Hanging)
    began = time.monotonic()
    with Camera("rtsp://host/live", unsaid) as source:
        assert next(source.shots()) is None
    assert time.monotonic() - began < 2
    with Camera("rtsp://host/live", unsaid) as source, pytest.raises(RunFailed):
        list(source.shots())
    gate.set()


def test_of_connections_that_hang_no_more_than_a_few_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "SILENCE_S", 0.1)
    monkeypatch.setattr(camera, "FAREWELL_S", 0.01)
    gate, made = threading.Event(), []

    class Hanging(Stand):
        def grab(self) -> bool:
            made.append(self) if self not in made else None
            return self.grabs == 0 and super().grab() if len(made) == 1 else not gate.wait(20)

    monkeypatch.setattr(cv2, "VideoCapture", Hanging)
    most, until = 1 + camera.MOST_LEFT, time.monotonic() + 8
    with Camera("rtsp://host/live", lambda sentence: None) as source:
        for _ in source.shots():
            if len(made) == most:
                until = min(until, time.monotonic() + 0.7)
            if time.monotonic() > until:
                break
    count = len(made)
    gate.set()
    assert count == most


def test_failures_at_a_camera_s_pace_are_waited_out_and_those_in_no_time_are_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Late(Stand):
        def grab(self) -> bool:
            time.sleep(0.011)
            return super().grab() and self.grabs > 60

    class Ended(Stand):
        def grab(self) -> bool:
            return self.grabs < 1 and super().grab()

    monkeypatch.setattr(camera, "SILENCE_S", 5)
    monkeypatch.setattr(camera, "ENDED", 50)
    monkeypatch.setattr(cv2, "VideoCapture", Late)
    with Camera(0, unsaid) as source:
        assert next(seen(source)).number == 0
    monkeypatch.setattr(cv2, "VideoCapture", Ended)
    told: list[str] = []
    began = time.monotonic()
    with Camera(0, told.append) as source:
        for _ in source.shots():
            if told:
                break
    assert "ended the connection" in told[0]
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0, "0"),
        ("/dev/video0", "/dev/video0"),
        ("rtsp://user:secret@10.0.0.9/live", "rtsp://10.0.0.9/live"),
        ("RTSP://user:se/cr@et@10.0.0.9:554/a/b", "rtsp://10.0.0.9:554/a/b"),
        ("rtsp://secret@[fe80::1]/live", "rtsp://[fe80::1]/live"),
        ("rtsp://a:b?c#d@host/live", "rtsp://host/live"),
        ("rtsp://host/live?token=secret&secret&channel=1#secret", "rtsp://host/live?token=…&…&channel=…"),
        ("rtsp://host/user=me_password=secret_channel=1/x", "rtsp://host/user=…/x"),
        ("srt://host:9000?passphrase=secret", "srt://host:9000?passphrase=…"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: int | str, name: str) -> None:
    assert shown(address) == name


def grey(value: int) -> np.ndarray:
    return np.full((64, 64, 3), value, np.uint8)


def test_a_saved_camera_lasts_as_long_as_it_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "live.avi"
    with LiveWriter(path, fps=20) as writer:
        writer.live(None)
        moments = []
        for value in (50, 200):
            moments.append(time.monotonic())
            writer.live(grey(value))
            time.sleep(0.3)
        moments.append(time.monotonic())
        for _ in range(200):
            writer.live(grey(100))
    moments.append(time.monotonic())
    assert reel(path.read_bytes()).fps == 20
    assert length(path.read_bytes()) <= 20 * (moments[-1] - moments[0]) + 1
    light = [round(float(frame.mean()) / 50) * 50 for frame in frames(path.read_bytes())]
    assert light == sorted(light, key=(50, 200, 100).index)
    for value, begin, end in zip((50, 200), moments, moments[1:], strict=False):
        assert abs(light.count(value) - 20 * (end - begin)) < 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, BadInput])
def test_an_interruption_leaves_the_saved_camera_whole(error: type[BaseException], tmp_path: Path) -> None:
    with suppress(error), LiveWriter(tmp_path / "live.mp4") as writer:
        writer.live(grey(50))
        assert writer.path == tmp_path / "live.mp4"
        raise error("now")
    assert reel((tmp_path / "live.mp4").read_bytes()).frame_count >= 1
    assert len(list(tmp_path.iterdir())) == 1
