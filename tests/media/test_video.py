"""Videos come frame by frame, in the order and number that strict clients count on, and never as half a file."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from woven_clips import WHOLE, WOVEN

from saccade.errors import BadInput, BadSettings, TooLarge
from saccade.media import Limits, VideoWriter, frames, kind, length, reel
from saccade.results import ByteArray

COUNT = 12


def scene(index: int, width: int = 160, height: int = 120) -> ByteArray:
    """A grey picture with a red square that moves 10 pixels a frame, and a blue stripe at its top."""
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[:10] = (20, 20, 220)
    picture[40:70, index * 10 : index * 10 + 30] = (220, 30, 30)
    return picture


def place(rgb: ByteArray) -> int:
    """The index that ``scene`` was given."""
    columns = np.flatnonzero(rgb[55, :, 0].astype(int) - rgb[55, :, 2] > 80)
    return round(columns.min() / 10)


@pytest.fixture(scope="module", params=[".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("video") / f"clip{request.param}")


def made(path: Path, count: int = COUNT) -> bytes:
    if path.suffix == ".gif":
        first, *others = (Pillow.fromarray(scene(index)) for index in range(count))
        first.save(path, save_all=True, append_images=others, duration=100, disposal=1)
    else:
        with VideoWriter(path, 10.0) as writer:
            for index in range(count):
                writer.write(scene(index))
    return path.read_bytes()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("film") / "clip.mp4")


def test_every_container_gives_all_its_frames_in_order(clip: bytes) -> None:
    assert kind(clip) in ("video", "animation")
    pictures = list(frames(clip))
    assert [place(picture) for picture in pictures] == list(range(COUNT))
    assert pictures[0].shape == (120, 160, 3)
    assert pictures[0].dtype == np.uint8
    assert np.abs(pictures[3].astype(int) - scene(3)).mean() < 6


@pytest.mark.parametrize(
    "data",
    [
        (b"\x47" + bytes(187)) * 3,
        (bytes(4) + b"\x47" + bytes(187)) * 3,
        b"\0\0\1\xba" + bytes(20),
        b"\0\0\1\xb3" + bytes(20),
        b"\0\0\0\x08wide" + bytes(20),
        b"\0\0\0\x08free" + bytes(20),
    ],
    ids=["TS", "TS of Blu-ray", "MPEG with sound", "MPEG", "QuickTime", "QuickTime with room to grow"],
)
def test_a_video_is_known_by_its_first_bytes(data: bytes) -> None:
    assert kind(data) == "video"
    with pytest.raises(BadInput, match=r"damaged|truncated"):
        frames(data)


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 12, 13])
def test_a_stride_gives_exactly_the_frames_that_the_client_counts(clip: bytes, stride: int) -> None:
    expected = list(range(stride - 1, COUNT, stride))
    assert len(expected) == COUNT // stride
    assert [place(picture) for picture in frames(clip, stride)] == expected


def test_frames_equal_those_of_opencv_reading_a_file(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(clip)
    reference = cv2.VideoCapture(str(path))
    for picture in frames(clip):
        found, frame = reference.read()
        assert found
        np.testing.assert_array_equal(picture, frame[:, :, ::-1])
    assert not reference.read()[0]


def test_the_reel_says_size_rate_and_length(film: bytes) -> None:
    described = reel(film)
    assert (described.width, described.height, described.frame_count) == (160, 120, COUNT)
    assert described.fps == pytest.approx(10.0)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_a_rotated_phone_video_comes_upright(film: bytes, degrees: int, turns: int) -> None:
    one, half = 0x00010000, 0xFFFF0000
    matrix = {90: (0, one, half, 0), 180: (half, 0, 0, half), 270: (0, half, one, 0)}[degrees]
    at = film.index(b"tkhd") + 4 + 40
    turned = film[:at] + struct.pack(">IIIII", *matrix[:2], 0, *matrix[2:]) + film[at + 20 :]
    upright, plain = next(iter(frames(turned))), next(iter(frames(film)))
    np.testing.assert_array_equal(upright, np.rot90(plain, turns))
    assert (reel(turned).height, reel(turned).width) == upright.shape[:2]


def test_limits_known_from_the_header_are_told_before_the_first_frame(film: bytes) -> None:
    for limits, words in (
        (Limits(max_frames=11), "12 frames"),
        (Limits(max_seconds=1.0), "1 s"),
        (Limits(max_pixels=10_000), "160x120"),
        (Limits(max_video_bytes=1000), f"{len(film)} bytes"),
    ):
        with pytest.raises(TooLarge, match=words):
            frames(film, 1, limits)


def test_a_video_that_hides_its_length_is_stopped_while_it_is_read(tmp_path: Path) -> None:
    data = made(tmp_path / "clip.webm")
    at = data.index(b"\x44\x89\x88") + 3
    silent = data[:at] + struct.pack(">d", 100.0) + data[at + 8 :]
    walk = frames(silent, 1, Limits(max_frames=5))
    with pytest.raises(TooLarge, match="6 frames"):
        list(walk)


def test_walking_takes_frames_one_at_a_time_and_can_stop_early(film: bytes) -> None:
    walk = frames(film)
    assert place(next(walk)) == 0
    assert place(next(walk)) == 1
    walk.close()  # type: ignore[attr-defined]
    assert list(walk) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"just words in a file", "plain text"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret.ts\n", "plain text"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "plain text"),
        (b"\xff\xd8\xff\xe0 a photo", "still image"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "damaged"),
    ],
)
def test_what_is_no_video_is_refused_and_never_reaches_ffmpeg_if_it_could_name_files(data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        frames(data)


def test_a_cut_off_video_is_refused_and_not_answered_by_half(film: bytes) -> None:
    for part in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(BadInput, match="truncated"):
            frames(film[: int(len(film) * part)])


def test_no_container_is_answered_by_half(clip: bytes) -> None:
    for part in (0.3, 0.5, 0.9, 0.99):
        with pytest.raises(BadInput, match="truncated"):
            frames(clip[: int(len(clip) * part)])
    with pytest.raises(BadInput, match="truncated"):
        frames(clip[:-4])


def test_half_a_picture_in_a_still_gif_is_no_frame() -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)).save(buffer, "GIF")
    whole = buffer.getvalue()
    assert len(list(frames(whole[:-1]))) == 1, "the closing byte alone may be missing"
    with pytest.raises(BadInput, match="truncated"):
        frames(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("suffix", "sign", "unknown"),
    [
        (".avi", b"RIFF", bytes(4)),
        (".avi", b"RIFF", b"\xff" * 4),
        (".mkv", b"\x18\x53\x80\x67", b"\x01" + b"\xff" * 7),
    ],
)
def test_a_recording_that_does_not_say_how_long_it_is_is_read(
    suffix: str, sign: bytes, unknown: bytes, tmp_path: Path
) -> None:
    data = bytearray(made(tmp_path / f"clip{suffix}"))
    at = data.index(sign) + len(sign)
    data[at : at + len(unknown)] = unknown
    assert [place(frame) for frame in frames(bytes(data))] == list(range(COUNT))


def test_a_video_of_a_codec_that_is_not_read_is_told_which_and_not_called_damaged() -> None:
    file = io.BytesIO()
    Pillow.new("RGB", (64, 48)).save(file, "AVIF", save_all=True, append_images=[Pillow.new("RGB", (64, 48), "red")])
    data = file.getvalue()
    film = data.replace(b"ftypavis", b"ftypisom", 1).replace(b"pict", b"vide")
    with pytest.raises(BadInput, match="AV1"):
        list(frames(film))


@pytest.mark.parametrize("codec", WOVEN)
def test_an_interlaced_video_is_read_or_refused_and_no_memory_is_taken_for_its_pictures(codec: str) -> None:
    found = None
    with suppress(BadInput):
        found = lightness(WOVEN[codec])
    if found != LIGHTER:
        with pytest.raises(BadInput, match="interlaced"):
            reel(WOVEN[codec])


@pytest.mark.parametrize("codec", WHOLE)
def test_a_video_that_is_not_interlaced_is_read_whatever_its_headers_allow(codec: str) -> None:
    assert lightness(WHOLE[codec]) == LIGHTER


LIGHTER = [40, 80, 120, 160]


def lightness(data: bytes) -> list[int]:
    """Of each picture, to the next multiple of ten."""
    return [round(float(picture.mean()) / 10) * 10 for picture in frames(data)]


def test_a_stride_below_one_is_a_mistake_of_the_program(film: bytes) -> None:
    with pytest.raises(ValueError, match="stride"):
        frames(film, 0)


def test_a_still_gif_is_an_image_and_a_moving_one_an_animation() -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(scene(0)).save(buffer, "GIF")
    assert kind(buffer.getvalue()) == "image"
    assert len(list(frames(buffer.getvalue()))) == 1
    assert kind(b"neither") is None


def test_many_threads_read_at_once(film: bytes) -> None:
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append([place(p) for p in frames(film)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(COUNT))] * 8


def test_mutated_videos_raise_nothing_but_errors_of_the_caller(clip: bytes) -> None:
    rng = random.Random(5)
    for _ in range(60):
        data = bytearray(clip)
        for _ in range(rng.choice((1, 4, 16))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            for _ in frames(bytes(data), 3, Limits(max_pixels=500_000, max_frames=50)):
                pass
        except (BadInput, TooLarge):
            continue


def test_the_writer_says_which_suffixes_it_knows_and_when_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"\.mp4"):
        VideoWriter(tmp_path / "clip.txt", 10)
    with pytest.raises(BadSettings, match=r"clip\.mp4"), VideoWriter(tmp_path / "nowhere" / "clip.mp4", 10) as writer:
        writer.write(scene(0))


def test_writers_of_one_name_at_one_time_each_have_a_file_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as first, VideoWriter(path, 10) as second:
        for count in range(3):
            first.write(scene(count, 160, 120))
            second.write(scene(count, 80, 60))
    with VideoWriter(path, 10) as third:
        third.write(scene(0))
    assert [writer.path.name for writer in (first, second, third)] == ["clip.mp4", "clip-2.mp4", "clip-3.mp4"]
    assert [reel(writer.path.read_bytes()).width for writer in (first, second)] == [160, 80]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_video_leaves_no_file(error: type[BaseException], tmp_path: Path) -> None:
    with suppress(error), VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.write(scene(0))
        assert not (tmp_path / "clip.mp4").exists()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_video_so_far(tmp_path: Path) -> None:
    with suppress(BadInput), VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.write(scene(0))
        raise BadInput("the second frame is broken")
    assert reel((tmp_path / "clip.mp4").read_bytes()).frame_count == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_a_video_that_there_is_no_room_for_is_told_and_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    program = (
        "import resource, sys, numpy; from pathlib import Path; from saccade.media import VideoWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "with VideoWriter(Path(sys.argv[1]), 10) as writer:\n"
        "    noise = numpy.random.default_rng(0)\n"
        "    for _ in range(40): writer.write(noise.integers(0, 255, (240, 320, 3), 'uint8'))"
    )
    path = tmp_path / f"clip{suffix}"
    told = subprocess.run(
        [sys.executable, "-Bc", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"BadSettings: cannot write the video {path.name} to its end" in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0.5, 12.5, 23.976, 29.97, 60.0, 0.0, float("nan")])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_the_writer_keeps_rate_size_and_count(suffix: str, fps: float, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    with VideoWriter(path, fps) as writer:
        for index in range(5):
            writer.write(scene(index, 161, 121))
    described = reel(path.read_bytes())
    assert described.fps == pytest.approx(fps if fps > 0 else 25.0, rel=1e-3)
    assert (described.width, described.height) == (160, 120)
    assert len(list(frames(path.read_bytes()))) == length(path.read_bytes()) == 5


def test_the_sample_videos_have_twelve_frames_in_every_container(data: Path) -> None:
    clips = sorted((data / "videos").glob("synthetic_12frames*"))
    assert len(clips) == 6
    for path in clips:
        content = path.read_bytes()
        for stride in (1, 2, 5, 7):
            assert len(list(frames(content, stride))) == 12 // stride, path.name


def test_the_damaged_sample_videos_are_refused(data: Path) -> None:
    with pytest.raises(BadInput, match="plain text"):
        frames((data / "videos" / "text_named.mp4").read_bytes())
    with pytest.raises(BadInput, match="truncated"):
        frames((data / "videos" / "truncated.mp4").read_bytes())


def test_a_street_video_is_walked_to_its_end(data: Path) -> None:
    content = (data / "videos" / "car-detection.mp4").read_bytes()
    assert sum(1 for _ in frames(content, 10)) == 15


def test_ten_thousand_tiny_frames_meet_the_limit(data: Path) -> None:
    content = (data / "images" / "bad" / "frames_10000.gif").read_bytes()
    assert kind(content) == "animation"
    with pytest.raises(TooLarge, match="9000"):
        list(frames(content))


def atom(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def test_an_index_of_millions_of_frames_that_are_not_there_is_refused_before_it_is_opened() -> None:
    counts = atom(b"stsz", struct.pack(">III", 0, 1, 30_000_000))
    plain = atom(b"moov", atom(b"trak", atom(b"mdia", atom(b"minf", atom(b"stbl", counts)))))
    fragment = atom(b"moov") + atom(b"moof", atom(b"traf", atom(b"trun", struct.pack(">II", 0, 30_000_000))))
    packed = atom(b"moov", atom(b"cmov", atom(b"cmvd", struct.pack(">I", len(plain)), zlib.compress(plain))))
    for index in (plain, fragment, packed):
        for head in (atom(b"ftyp", b"isom\0\0\0\0isom"), b""):
            with pytest.raises(BadInput, match="more frames than the file can hold"):
                reel(head + index + atom(b"mdat", bytes(1000)))


def test_what_stands_among_the_frames_is_no_index(film: bytes) -> None:
    assert reel(film + atom(b"mdat", b"stsz" + b"\xff" * 1000)).frame_count == COUNT


def element(name: str, *content: bytes) -> bytes:
    """Of Matroska (RFC 9559)."""
    body = b"".join(content)
    return bytes.fromhex(name) + (1 << 56 | len(body)).to_bytes(8, "big") + body


def matroska(blocks: list[tuple[int, int, bytes]], seconds: float) -> bytes:
    """Blocks of (track, milliseconds, data); track 1 is Motion JPEG, 2 is sound."""
    size = element("e0", element("b0", bytes([160])), element("ba", bytes([120])))
    rate = element("e1", element("b5", struct.pack(">d", 8000.0)), element("9f", b"\1"), element("6264", b"\x08"))
    codecs = ((b"\1", b"V_MJPEG", size), (b"\2", b"A_PCM/INT/LIT", rate))
    tracks = (
        element("ae", element("d7", kind), element("73c5", kind), element("83", kind), element("86", name), facts)
        for kind, name, facts in codecs
    )
    clusters = (
        element("e7", time.to_bytes(4, "big")) + element("a3", bytes([128 | track]), b"\0\0\x80", data)
        for track, time, data in blocks
    )
    return element("1a45dfa3", element("4282", b"matroska")) + element(
        "18538067",
        element("1549a966", element("4489", struct.pack(">d", seconds * 1e3))),
        element("1654ae6b", *tracks),
        *(element("1f43b675", cluster) for cluster in clusters),
    )


def pictures(begin_ms: int = 0) -> list[tuple[int, int, bytes]]:
    """As many as COUNT, a tenth of a second each."""
    encoded = (cv2.imencode(".jpg", scene(index)[:, :, ::-1])[1].tobytes() for index in range(COUNT))
    return [(1, begin_ms + 100 * index, data) for index, data in enumerate(encoded)]


def test_a_pause_full_of_sound_ends_no_video() -> None:
    sound = [(2, 500, b"\x80")] * 5000
    found = pictures()
    data = matroska(found[:6] + sound + found[6:], 1.2)
    assert [place(picture) for picture in frames(data)] == list(range(COUNT))


@pytest.mark.parametrize(("begin_s", "seconds"), [(1000, 1001.2), (0, 1000.0)])
def test_a_late_clock_and_a_long_sound_make_no_video_longer(begin_s: int, seconds: float) -> None:
    data = matroska([*pictures(begin_s * 1000), (2, 900_000, b"\x80")], seconds)
    assert [place(picture) for picture in frames(data)] == list(range(COUNT))
    for limits, words in ((Limits(max_frames=11), "frames or more"), (Limits(max_seconds=1.0), "s or more")):
        with pytest.raises(TooLarge, match=words):
            frames(data, 1, limits)


def test_the_rate_is_that_of_the_pictures_where_none_or_a_wrong_one_is_told() -> None:
    due = [0, 45, 66, 93, 143, 181, 199, 234, 285, 314, 334, 377]  # in milliseconds, as browsers record
    recording = matroska([(1, time, data) for time, (_, _, data) in zip(due, pictures(), strict=True)], 0.4)
    assert reel(recording).fps == pytest.approx(11 / 0.377)


SHORT_OF_THREADS = """
import os, resource, sys
from saccade.media import frames
data = sys.stdin.buffer.read()
if os.getuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(sum(1 for _ in frames(data)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits threads as Linux does")
def test_a_video_is_read_where_no_more_threads_may_be_started(film: bytes) -> None:
    told = subprocess.run([sys.executable, "-c", SHORT_OF_THREADS], input=film, capture_output=True, timeout=120)
    assert told.stdout.decode().strip() == str(COUNT), told.stderr.decode()
