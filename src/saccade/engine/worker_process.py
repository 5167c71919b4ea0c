"""How a worker begins: ``python -P -m saccade.engine.worker_process FD PARENT MURMUR [RUNTIME]``, started by the front.

With a RUNTIME it is a spare: before it says Hello it brings in what the models of that runtime need, at the lowest
priority, and then waits to be told which one to open. Nothing of weight is imported before the process is bound to
its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from saccade.kin import die_with

LOWEST = 19


def main() -> None:
    """The socket to the front, the front's process id, the file for what libraries say, and the runtime that a spare
    should know."""
    descriptor, parent, murmur, *runtime = sys.argv[1:]
    die_with(int(parent))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Terminals and service managers tell all processes; the front lets the workers finish before they leave.
        signal.signal(number, signal.SIG_IGN)
    # A worker computes in threads of its own; numpy's library would start one for every core when it is imported.
    os.putenv("OPENBLAS_NUM_THREADS", "1")
    if runtime:
        # On Linux a thread's priority is its own, and only root can raise it again: this thread's ends with it.
        furnishing = threading.Thread(target=_furnish, args=(runtime[0],))
        with suppress(RuntimeError):  # there is no thread for it; a model that is opened asks for its own
            furnishing.start()
            furnishing.join()
    from saccade.engine.murmur import Murmur
    from saccade.engine.worker import serve

    serve(socket.socket(fileno=int(descriptor)), Murmur(int(murmur)))


def _furnish(runtime: str) -> None:
    if sys.platform == "linux":
        with suppress(OSError):
            os.nice(LOWEST)
    from saccade.engine.worker import furnish

    with suppress(RuntimeError):  # what the system refuses now, it may grant when a model is opened
        furnish(runtime)


if __name__ == "__main__":
    main()
