"""Videos and animated GIFs to frames, and frames to a video, through OpenCV's own FFmpeg.

That FFmpeg is an LGPL build and the one that the reference library reads with, so frames are identical; the wheels of
PyAV carry x264 and x265, which are GPL. Frames are made one at a time, so a long video takes no more memory than a
short one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import cv2
import numpy as np

from saccade.errors import BadInput, BadSettings, TooLarge
from saccade.media import fields, gif, lengths, signatures
from saccade.media.headers import probe
from saccade.media.limits import DEFAULT, Limits, check_bytes, check_pixels
from saccade.results import ByteArray

ACCEPTED: Final = "MP4, MOV, M4V, AVI, MKV, WebM, GIF, WMV, ASF, MPEG and TS"
CODECS: Final = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".webm": "VP80", ".mkv": "VP80", ".avi": "MJPG"}
UNREAD: Final = {b"av01": "AV1", b"vvc1": "VVC", b"vvi1": "VVC"}
"""Codecs that the FFmpeg within OpenCV cannot decode, by their FourCC."""
USUAL_FPS: Final = 25.0
DOUBT: Final = 0.1
"""How far, in part, a rate may be from that of the pictures themselves to be believed."""
PACKETS: Final = -1
"""The format in which OpenCV hands out packets as they are, none of them decoded."""
LOOK_AHEAD: Final = 12
"""Pictures that are looked at before a video that may be interlaced is believed to be read as it is."""
MAX_BOXES: Final = 100_000
MAX_INDEX_BYTES: Final = 64 << 20
MAX_SAMPLES: Final = 100_000_000
SAMPLES_PER_BYTE: Final = 8
"""Of a file's frames and pieces of sound, of which old codecs put six into a byte; each takes 24 bytes of memory."""
SAMPLES: Final = re.compile(rb"(?:stsz|stz2).{8}(.{4})|trun.{4}(.{4})", re.DOTALL)
PACKED: Final = re.compile(rb"cmvd.{4}", re.DOTALL)
"""Of ISO/IEC 14496-12, 8.7.3 and 8.8.8, and of Apple's QuickTime File Format: counts of samples, a packed index."""

os.putenv("OPENCV_FFMPEG_LOGLEVEL", "-8")
"""Nothing of what FFmpeg thinks of strangers' damaged files; OpenCV reads it when the first video is opened."""
os.putenv("OPENCV_FFMPEG_READ_ATTEMPTS", str(2**31 - 1))
"""OpenCV ends a video at 4096 packets of sound in a row, without the frames that its decoder's threads still hold."""

Kind = Literal["image", "animation", "video"]


def kind(data: bytes) -> Kind | None:
    """What the bytes are by their content: a still image, a GIF of several frames, a video, or nothing we know."""
    if signatures.container(data):
        return "video"
    name = signatures.image_format(data)
    if name == "GIF":
        return "animation" if gif.is_animation(data) else "image"
    if name is None:
        try:
            probe(data)
        except BadInput:
            return None
    return "image"


def with_videos(message: str) -> str:
    """Why bytes are no image, with the accepted videos beside the images, for those who may send either."""
    return f"{message}, and of videos {ACCEPTED}" if message.endswith(signatures.ACCEPTED) else message


@dataclass(frozen=True, slots=True)
class Reel:
    """What a video's header says: ``fps`` (25 where it says nothing), ``frame_count`` (0 when unknown; may be wrong).

    ``width`` and ``height`` are upright.
    """

    width: int
    height: int
    fps: float
    frame_count: int


def reel(data: bytes, limits: Limits = DEFAULT) -> Reel:
    """Size, rate and length of a video, without decoding it.

    What browsers record and what cameras send tells no rate, or a wrong one, but when each picture is due: that counts.

    Raises: BadInput, TooLarge.
    """
    capture = _opened(data, limits)
    told = _described(capture)
    due = _clock(capture)
    fps = (len(due) - 1) / (max(due) - min(due)) if due and max(due) > min(due) else told.fps
    return replace(told, fps=fps) if abs(fps / told.fps - 1) > DOUBT else told


def length(data: bytes, limits: Limits = DEFAULT) -> int:
    """How many frames there are, whatever the header says: they are counted, and none is decoded.

    Raises: BadInput, TooLarge.
    """
    return _packets(_opened(data, limits))


def frames(data: bytes, stride: int = 1, limits: Limits = DEFAULT) -> Iterator[ByteArray]:
    """Every ``stride``-th frame of a video or GIF, upright RGB (h, w, 3), one at a time.

    Of N frames exactly floor(N / stride) come: those with the indices stride - 1, 2 * stride - 1, and so on. What can
    be refused by the header is refused at once, the rest while walking; closing the iterator frees the decoder.

    Raises: BadInput, TooLarge.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}; it is at least 1")
    return _walk(_opened(data, limits), stride, limits)


def _walk(capture: cv2.VideoCapture, stride: int, limits: Limits) -> Iterator[ByteArray]:
    read = 0
    try:
        for read in _counted(capture, limits):
            if read % stride == 0:
                found, frame = capture.retrieve()
                if not found:
                    break
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        if read == 0:
            raise BadInput(_undecodable(_codec(capture)))
    finally:
        capture.release()


def _codec(capture: cv2.VideoCapture) -> bytes:
    """Its FourCC; nothing where there is none."""
    codec = capture.get(cv2.CAP_PROP_FOURCC)
    return int(codec).to_bytes(4, "little") if 0 < codec < 1 << 32 else b""


def _undecodable(codec: bytes) -> str:
    """What to tell the sender of a video without a single frame that could be decoded."""
    if codec.lower() in UNREAD:
        name = UNREAD[codec.lower()]
        return f"the video is packed with {name}, which is not read: convert it, for example to MP4 with H.264"
    return "the video is damaged: none of its frames can be decoded"


def _opened(data: bytes, limits: Limits) -> cv2.VideoCapture:
    """A capture over the bytes.

    Only what carries the mark of an accepted container is ever given to FFmpeg: it would also follow playlists and
    scripts that name other files and addresses.
    """
    check_bytes(len(data), limits.max_video_bytes, "video")
    container = "GIF" if signatures.image_format(data) == "GIF" else signatures.container(data)
    if container is None:
        raise BadInput(f"cannot identify video file: {_instead(data)}. Accepted are {ACCEPTED}")
    if container in ("MP4", "QuickTime"):
        _check_whole(data)
    if (missing := lengths.told(data, container) - len(data)) > 0:
        raise _cut_off(missing)
    if container == "GIF":
        if not gif.is_whole(data):
            raise BadInput("the GIF animation is truncated: its end is missing; send the whole file")
        header = probe(data)
        check_pixels(header.width, header.height, limits.max_pixels, "GIF animation")
    with _as_file(data) as path:
        capture = _captured(path)
        if not capture.isOpened():
            raise BadInput(f"the {container} video cannot be opened: it is damaged or truncated, or holds sound alone")
        try:
            _check_header(_described(capture), path, limits)
            _check_woven(_codec(capture), path)
        except (TooLarge, BadInput):
            capture.release()
            raise
    return capture


def _captured(path: str) -> cv2.VideoCapture:
    """A capture over the file, perhaps not opened; of one thread where the system gives no more to decode with."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    return capture if capture.isOpened() else cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which the bytes can be opened: in memory on Linux, a temporary file elsewhere.

    OpenCV can read from a buffer too, but there damaged files crash the process (use after free in its stream reader).
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("video")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video"
            path.write_bytes(data)
            yield str(path)


def _instead(data: bytes) -> str:
    if not data:
        return "it is empty (0 bytes)"
    name = signatures.image_format(data)
    return f"it is a still image ({name})" if name else signatures.looks_like(data)


def _check_whole(data: bytes) -> None:
    """The boxes of MP4 and QuickTime say their length, so that a cut-off file need not give half a video.

    Raises: BadInput.
    """
    at, index_found, samples = 0, False, 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        index_found = index_found or name == b"moov"
        if name in (b"moov", b"mdat", b"moof") and at + size > len(data):
            missing = at + size - len(data)
            raise _cut_off(missing)
        if name != b"mdat":
            samples += _samples(data[at : at + size] if size >= 8 else data[at:])
            if samples > min(MAX_SAMPLES, SAMPLES_PER_BYTE * len(data)):
                raise BadInput("the video is damaged: its index promises more frames than the file can hold")
        if size < 8:
            break
        at += size
    if not index_found:
        raise BadInput("the video is truncated: its index (the moov box) is missing; send the whole file")


def _cut_off(missing: int) -> BadInput:
    return BadInput(f"the video is truncated: its last {missing} bytes are missing; send the whole file")


def _samples(index: bytes) -> int:
    """How many frames and pieces of sound an index promises; FFmpeg makes a list of them all before it says a word.

    They are looked for anywhere, because it finds them anywhere, also in an index that is packed.
    """
    packed = PACKED.search(index)
    if packed is not None:
        with contextlib.suppress(zlib.error):
            index += zlib.decompressobj().decompress(index[packed.end() :], MAX_INDEX_BYTES)
    return sum(int.from_bytes(found[1] or found[2], "big") for found in SAMPLES.finditer(index))


def _described(capture: cv2.VideoCapture) -> Reel:
    fps = capture.get(cv2.CAP_PROP_FPS)
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return Reel(
        width=int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        height=int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        fps=fps if 0 < fps < 1e4 else USUAL_FPS,
        frame_count=int(count) if 0 < count < 1e12 else 0,
    )


def _check_header(described: Reel, path: str, limits: Limits) -> None:
    """A length over the limits is believed when the packets, which are counted without decoding them, are too many.

    Many headers tell no count: then it is made of the rate and of the length of everything, sound and a clock that
    began long before the picture included.

    Raises: TooLarge.
    """
    check_pixels(described.width, described.height, limits.max_pixels, "video")
    try:
        _check_length(described.frame_count, described.frame_count / described.fps, limits)
    except TooLarge as told:
        capture = _captured(path)
        capture.set(cv2.CAP_PROP_FORMAT, PACKETS)
        try:
            for _ in _counted(capture, limits):
                pass
        except TooLarge:
            raise told from None
        finally:
            capture.release()


def _check_woven(codec: bytes, path: str) -> None:
    """OpenCV 4.13 and later turn no interlaced picture into RGB, say nothing, and hand out what was in their memory.

    That does not change from one picture to the next; what looks interlaced by its headers alone does.

    Raises: BadInput.
    """
    if not fields.possible(codec, _first_packets(path)):
        return
    capture = _captured(path)
    try:
        seen = (capture.retrieve()[1] for _ in range(LOOK_AHEAD) if capture.grab())
        unchanged = any(np.array_equal(one, other) for one, other in itertools.pairwise(seen))
    finally:
        capture.release()
    if unchanged:
        raise BadInput(
            "the video is interlaced, as those of television and of older cameras are, which is not read: convert it, "
            "for example with: ffmpeg -i OLD -vf yadif NEW.mp4"
        )


def _first_packets(path: str) -> Iterator[bytes]:
    """The codec's own header, where the container keeps one, and the first pictures as they are packed."""
    capture = _captured(path)
    capture.set(cv2.CAP_PROP_FORMAT, PACKETS)
    try:
        for header in (int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)), *[0] * LOOK_AHEAD):
            if header or capture.grab():
                found, packet = capture.retrieve(flag=header)
                if found and packet is not None:
                    yield packet.tobytes()
    finally:
        capture.release()


def _counted(capture: cv2.VideoCapture, limits: Limits) -> Iterator[int]:
    """Grabs one frame after another, and says how many there were.

    Raises: TooLarge.
    """
    read = 0
    while capture.grab():
        read += 1
        _check_length(read, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, limits)
        yield read


def _packets(capture: cv2.VideoCapture) -> int:
    """How many packets of pictures there are, none of them decoded; the capture is released."""
    return len(_clock(capture))


def _clock(capture: cv2.VideoCapture) -> list[float]:
    """For each packet of a picture when it is due, in seconds, none of them decoded; the capture is released."""
    capture.set(cv2.CAP_PROP_FORMAT, PACKETS)
    try:
        return [capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in iter(capture.grab, False)]
    finally:
        capture.release()


def _check_length(count: int, seconds: float, limits: Limits) -> None:
    """Raises: TooLarge."""
    if count > limits.max_frames:
        raise TooLarge(f"the video has {count} frames or more; at most {limits.max_frames} are accepted: cut it")
    if seconds > limits.max_seconds:
        raise TooLarge(
            f"the video lasts {seconds:.0f} s or more; at most {limits.max_seconds:g} s are accepted: cut it"
        )


class VideoWriter:
    """Frames to a video file; a context manager. The file is there once it is whole: an interrupted one leaves nothing,
    an error ends the video. Nothing is written over, also not by two writers at one time: :attr:`path` says what the
    file is called, which may be known only after the first frame.

    The suffix chooses the codec: .mp4, .m4v and .mov are MPEG-4 (fast; every desktop player, not browsers; on macOS
    H.264, which browsers play too), .webm and .mkv are VP8 (every browser and player, some 20 times slower to write),
    .avi is Motion JPEG. H.264 elsewhere needs a GPL encoder or a patent licence, so it is left out.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise BadSettings(f"cannot write a {path.suffix or 'nameless'} video; use one of {', '.join(CODECS)}")
        self.path = self._wanted = path
        self._draft = path
        self._fps = fps if 0 < fps < 1e4 else USUAL_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

    def write(self, rgb: ByteArray) -> None:
        """Adds one frame; the first decides the size of the video, others are scaled to it.

        Raises: BadSettings when the file cannot be written.
        """
        if self._writer is None:
            self._size = (rgb.shape[1] & ~1 or 2, rgb.shape[0] & ~1 or 2)
            self._writer = self._open()
        frame = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(frame)
        self._count += 1

    def close(self, *, keep: bool = True) -> None:
        """Puts the file into its place, or throws it away.

        Raises: BadSettings when it is not whole, of which OpenCV says nothing.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        whole = keep and _packets(_captured(str(self._draft))) >= self._count
        if whole:
            self._draft.replace(self.path)
            return
        self._draft.unlink(missing_ok=True)
        if keep:
            raise BadSettings(f"cannot write the video {self.path.name} to its end: there may be no room left")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(keep=error is None or isinstance(error, Exception))

    def _open(self) -> cv2.VideoWriter:
        try:
            self._claim()
        except OSError as error:
            raise BadSettings(f"cannot write the video {self.path.name}: {error.strerror}") from error
        codec = CODECS[self.path.suffix.lower()]
        choices = ["avc1", codec] if codec == "mp4v" and sys.platform == "darwin" else [codec]
        for choice in choices:
            writer = cv2.VideoWriter(str(self._draft), cv2.VideoWriter.fourcc(*choice), self._fps, self._size)
            if writer.isOpened():
                return writer
        self._draft.unlink(missing_ok=True)
        raise BadSettings(f"cannot write the video {self.path.name}: the system has no encoder for it")

    def _claim(self) -> None:
        """Takes a name that nobody has: whoever made its draft has it, until the draft becomes the file."""
        for number in itertools.count(1):
            name = self._wanted.stem if number == 1 else f"{self._wanted.stem}-{number}"
            self.path = self._wanted.with_name(f"{name}{self._wanted.suffix}")
            self._draft = self.path.with_name(f".{name}.part{self.path.suffix}")
            try:
                open(self._draft, "xb").close()
            except FileExistsError:
                continue
            if not self.path.exists():
                return
            self._draft.unlink()
