"""How a worker begins: ``python -P -m saccade.engine.worker_process FD PARENT MURMUR``, started by the front, or as a
copy of :mod:`saccade.engine.fork_server_process`.

Nothing of weight is imported before the process is bound to its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from saccade.kin import die_with


def main() -> None:
    """The socket to the front, the front's process id, and the file for what libraries say."""
    descriptor, parent, murmur = sys.argv[1:]
    die_with(int(parent))
    settle()
    begin(int(descriptor), int(murmur))


def settle() -> None:
    """Makes this a process that only the front tells what to do, and that computes in threads of its own."""
    # Terminals and service managers tell all processes; the front lets the workers finish before they leave.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Whoever started the server may have had it ignore this; the system tells no end of a child then.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A worker computes in threads of its own; numpy's library would start one for every core when it is imported.
    os.putenv("OPENBLAS_NUM_THREADS", "1")


def begin(descriptor: int, murmur: int) -> None:
    """Serves the front at the other end of this socket."""
    from saccade.engine.murmur import Murmur
    from saccade.engine.worker import serve

    serve(socket.socket(fileno=descriptor), Murmur(murmur))


if __name__ == "__main__":
    main()
