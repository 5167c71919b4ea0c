"""What a worker does: it opens one replica and answers the front's jobs; see :mod:`saccade.engine.worker_process`.

One thread reads, the replica's threads compute and answer, one thread beats the pulse. When the front is gone, so is
the worker: its socket ends, and the kernel was asked to end it, too. What cannot be stopped in a thread — a decoder
that runs away, memory that grows without end — is stopped by ending the process; the front then blames one call and
runs the others again.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn, TextIO

import msgspec

from saccade import model
from saccade.discover import resident_bytes, share_heaps, share_out, trim
from saccade.engine import wire
from saccade.engine.golden import scene
from saccade.engine.job import Job, Reply
from saccade.engine.murmur import Murmur
from saccade.engine.replica import Replica
from saccade.engine.voice import formatter
from saccade.errors import Error, place, short_of

log = logging.getLogger("saccade.engine")

PULSE_S = 0.25
TRIM_S = 5.0
BUSY_TRIM_S = 30.0
"""As long as a worker is never idle; by then large images of many formats have left holes in every thread's memory."""

READ_BYTES = 128 << 10
"""A whole frame with a usual photo is read at once: a copy is cheaper than asking the kernel three times."""

BYTES_PER_PIXEL = 16
"""What decoding and preparing may hold for one pixel at one time; allowed to every thread beside the model itself."""

SPARE_BYTES = 512 << 20

STDERR = 2
"""The descriptor of standard error, to which libraries write whatever Python thinks of it."""

FAILED, GUILTY, SWOLLEN = 70, 71, 72
"""Exit codes: broken wire; a decoder ran away; too much memory."""


class Worker:
    """Serves one front over one socket, until either ends."""

    def __init__(self, front: socket.socket, murmur: Murmur) -> None:
        self._front = front
        self._murmur = murmur
        self._coming = front.makefile("rb", buffering=READ_BYTES)
        self._sending = threading.Lock()
        self._replica: Replica | None = None
        self._limit_bytes = 0
        self._decode_s = 0.0
        self._trimmed_at = time.monotonic()

    def serve(self) -> None:
        """Opens the model that the front names, then takes jobs until the front says Stop or is gone."""
        self._send(wire.Hello(wire.VERSION, os.getpid()))
        hello, order = self._receive()[0], self._receive()[0]
        if not isinstance(hello, wire.Hello) or hello.version != wire.VERSION or not isinstance(order, wire.Open):
            self._leave(FAILED)
        self._decode_s = order.decode_s
        share_heaps(max(2, order.compute.threads))
        try:
            threading.Thread(target=self._beat, name="pulse", daemon=True).start()
            replica = Replica(order.card, order.compute, order.duty)
        except Error as error:
            self._refuse(*wire.named(error))
        except Exception as error:
            if (shortage := short_of(error)) is not None:
                self._refuse(*wire.named(shortage))
            log.error("the model '%s' cannot be opened: %s", order.card.name, place(error))
            self._refuse("CorruptFiles", f"The model '{order.card.name}' cannot be opened ({type(error).__name__}).")
        self._replica = replica
        held = resident_bytes()
        room = replica.slots * order.duty.limits.max_pixels * BYTES_PER_PIXEL + SPARE_BYTES
        # The front renews a worker over its limit in peace; one that outruns that is ended here.
        self._limit_bytes = int(order.memory_bytes * 1.25) or held * 2 + room
        self._murmur.take(STDERR)
        self._send(wire.Opened(replica.slots, held))
        self._take_jobs(replica)

    def _take_jobs(self, replica: Replica) -> None:
        while True:
            message, body = self._receive()
            if isinstance(message, Job):
                replica.submit(message, body, self._answer)
            elif isinstance(message, wire.Cancel):
                replica.cancel(message.id)
            elif isinstance(message, wire.Grant):
                replica.grant(message.id, message.frames)
            elif isinstance(message, wire.Check):
                self._begin_check(replica)
            elif isinstance(message, wire.Stop):
                replica.close()
                self._leave(0)
            del message, body  # or the last image stays in memory until the next one comes

    def _answer(self, reply: Reply) -> None:
        self._send(wire.of_reply(reply))

    def _begin_check(self, replica: Replica) -> None:
        try:
            threading.Thread(target=self._check, args=(replica,), daemon=True).start()
        except RuntimeError:  # the system gives no thread now: no reason to end, the next look comes
            self._send(wire.Checked(None))

    def _check(self, replica: Replica) -> None:
        self._send(wire.Checked(replica.check()))

    def _beat(self) -> None:
        """Tells that the process lives, and ends it when one of its threads cannot be helped."""
        while True:
            time.sleep(PULSE_S)
            held = resident_bytes()
            self._send(wire.Pulse(held))
            replica = self._replica
            if replica is None:
                continue
            late = replica.overdue(self._decode_s)
            if late is not None:
                text = f"The image takes longer than {self._decode_s:g} s to decode. Send a smaller or simpler file."
                self._send(wire.Guilty(late, "TooLarge", text))
                self._leave(GUILTY)
            if self._limit_bytes and held > self._limit_bytes:
                self._swell(replica, held)
            self._trim(replica)

    def _swell(self, replica: Replica, held: int) -> NoReturn:
        """Ends the process before it harms the machine; the image being decoded is to blame, if there is one."""
        log.error("the worker holds %d MiB, over its limit of %d MiB", held >> 20, self._limit_bytes >> 20)
        decoding = replica.overdue(0.0)
        if decoding is not None:
            text = "The image takes more memory to decode than one image may. Send a smaller or simpler file."
            self._send(wire.Guilty(decoding, "TooLarge", text))
        self._leave(SWOLLEN)

    def _trim(self, replica: Replica) -> None:
        """Gives memory of large images back to the machine, in quiet moments if there are any; nobody else would."""
        self._murmur.trim()
        now = time.monotonic()
        pause_s = TRIM_S if replica.idle else BUSY_TRIM_S
        if now - self._trimmed_at > pause_s and replica.answered_since_trim():
            self._trimmed_at = now
            trim()

    def _refuse(self, kind: str, message: str) -> NoReturn:
        self._send(wire.Refused(kind, message))
        self._leave(0)

    def _send(self, message: wire.FromWorker) -> None:
        frame = wire.packed(message)
        try:
            with self._sending:
                self._front.sendall(frame)
        except OSError:
            self._leave(0)

    def _receive(self) -> tuple[wire.ToWorker, bytes]:
        head_length, body_length = wire.PREFIX.unpack(self._read(wire.PREFIX.size))
        head = self._read(head_length)
        body = self._read(body_length) if body_length else b""
        try:
            return wire.to_worker(head), body
        except msgspec.DecodeError as error:
            log.error("the front speaks another language: %s", place(error))
            self._leave(FAILED)

    def _read(self, length: int) -> bytes:
        """Exactly so many bytes; ends the process when the front is gone."""
        try:
            data: bytes = self._coming.read(length)
        except OSError:
            self._leave(0)
        if len(data) < length:
            self._leave(0)
        return data

    def _leave(self, code: int) -> NoReturn:
        """At once, whatever the other threads do; nothing here needs to be put in order."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def serve(front: socket.socket, murmur: Murmur) -> None:
    """Serves the front to the end of this process."""
    handler = logging.StreamHandler(_voice())
    handler.setFormatter(formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    threading.excepthook = _fallen
    share_out(1)
    Worker(front, murmur).serve()


def _voice() -> TextIO:
    """Where standard error leads now: the log keeps that way when libraries lose it."""
    try:
        descriptor = os.dup(STDERR)
    except OSError:  # the server was started without
        descriptor = os.open(os.devnull, os.O_WRONLY)
    return os.fdopen(descriptor, "w", buffering=1)


def _fallen(what: threading.ExceptHookArgs) -> None:
    """Logs a thread that was ended by an error of ours; the traceback would hold folders."""
    if what.exc_value is not None:
        log.error("a thread of the worker has ended: %s", place(what.exc_value))


def furnish(runtime: str) -> None:
    """Does what any model of a runtime would begin with, so that opening one does not have to wait for it.

    Raises whatever libraries that cannot be imported raise.
    """
    share_out(1)
    scene()
    model.furnish(runtime)
