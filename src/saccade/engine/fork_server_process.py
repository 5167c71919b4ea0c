"""The process that workers are copied from: ``python -P -m saccade.engine.fork_server_process FD PARENT RUNTIME``,
started by the front.

It imports what the models of a runtime need (without the runtime's library, if that starts threads), says that it is
ready, and forks for every order, which is one byte with two descriptors: the worker's socket and the file for what
libraries say. It answers with the worker's process id, or minus the error's number. Who forked a worker leaves at once,
so that the worker becomes a child of the front: it lives and dies with the front, not with this process. All of them
are of one process group, by which the front finds those whose number it never heard.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import NoReturn

from saccade.engine import worker_process
from saccade.errors import place
from saccade.kin import die_with

log = logging.getLogger("saccade.engine")

NUMBER = struct.Struct("=i")

UNFIT = 73
"""Exit code: this process has several threads, which a copy would not have."""


def main() -> None:
    """The socket to the front, the front's process id, and the runtime; "" for none."""
    descriptor, parent, runtime = sys.argv[1:]
    front = socket.socket(fileno=int(descriptor))
    die_with(int(parent))
    worker_process.settle()
    from saccade.engine import worker

    with suppress(Exception):  # what is refused or broken now may not be when a model is opened, or is told then
        worker.furnish(runtime)
    if len(os.listdir("/proc/self/task")) > 1:
        if not runtime:
            os._exit(UNFIT)
        # A new beginning, which leaves the library of the runtime to the workers.
        os.execv(sys.executable, [*sys.orig_argv[:-1], ""])  # noqa: S606 - the shell has nothing to do here
    gc.collect()
    gc.freeze()  # a look for garbage writes to every object, after which it is shared no more
    with suppress(OSError):  # the front is gone
        front.sendall(NUMBER.pack(0))
        while _take_order(front, int(parent)):
            pass
    os._exit(0)


def _take_order(front: socket.socket, parent: int) -> bool:
    """False when the front is gone."""
    order, descriptors, _, _ = socket.recv_fds(front, 1, 2)
    if order:
        try:
            answer = _forked(front, parent, descriptors)
        except OSError as error:
            answer = -(error.errno or errno.EAGAIN)
        front.sendall(NUMBER.pack(answer))
    for descriptor in descriptors:
        os.close(descriptor)
    return bool(order)


def _forked(front: socket.socket, parent: int, descriptors: list[int]) -> int:
    """The process id of a new worker. Raises OSError."""
    if len(descriptors) < 2:  # the kernel leaves out, without a word, what this process may not have
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    reading, writing = os.pipe()
    try:
        try:
            between = os.fork()
            if not between:
                _fork_again(front, parent, descriptors, reading, writing)
        finally:
            os.close(writing)
        said = os.read(reading, NUMBER.size)
    finally:
        os.close(reading)
    os.waitpid(between, 0)
    if not said:  # it was killed, and there may be a worker: the front finds that once this process is gone, too
        os._exit(1)
    return int(NUMBER.unpack(said)[0])


def _fork_again(front: socket.socket, parent: int, descriptors: list[int], reading: int, writing: int) -> NoReturn:
    """Forks the worker and leaves. Neither of them returns, whatever happens."""
    try:
        die_with(os.getppid())
        between = os.getpid()
        front.close()
        os.close(reading)
        try:
            answer = os.fork()
        except OSError as error:
            answer = -(error.errno or errno.EAGAIN)
        if answer:
            os.write(writing, NUMBER.pack(answer))
            os._exit(0)
        os.close(writing)
        while os.getppid() == between:
            time.sleep(0.0002)
        die_with(parent)
        way, murmur = descriptors
        worker_process.begin(way, murmur)
    except BaseException as error:
        log.error("a worker fell: %s", place(error))
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
