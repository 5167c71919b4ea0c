"""Talks to a running server for the commands that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from saccade.errors import BadOptions, Error

if TYPE_CHECKING:
    import httpx

HERE = "http://127.0.0.1:8000"
PATIENCE_S = 130.0


def server_options(function: Any) -> Any:
    """``--url`` and ``--key``: which server, and who asks."""
    function = click.option("--key", envvar="SACCADE_KEY", help="An admin key, where the server asks for one.")(
        function
    )
    return click.option("--url", envvar="SACCADE_URL", default=HERE, show_default=True, help="The server's address.")(
        function
    )


def ask(method: str, url: str, path: str, key: str | None = None, body: object = None, *, holds: str) -> Any:
    """The server's JSON answer, an object with the field ``holds``.

    Raises:
        BadOptions: the address or the key cannot be one, or the server says that something is wrong about the request.
        Error: it is not running, is no saccade, or refuses; the message is the server's own.
    """
    import httpx

    check_key(key)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    proxied = not any(name in url for name in ("127.0.0.1", "localhost", "[::1]"))
    try:
        with httpx.Client(timeout=PATIENCE_S, trust_env=proxied) as client:
            answer = client.request(method, url.rstrip("/") + path, headers=headers, json=body)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:  # the last of odd names of hosts
        raise BadOptions(f"The address '{url}' is no http address; expected one like {HERE}.") from error
    except httpx.TimeoutException as error:
        raise Error(f"{url} took longer than {PATIENCE_S:.0f} s. The change may still go on there.") from error
    except httpx.HTTPError as error:
        raise Error(
            f"There is no answer from {url} ({type(error).__name__}). Start the server with 'saccade serve', or name "
            "another with --url or SACCADE_URL."
        ) from error
    told = _document(answer)
    if answer.is_success and told is not None and holds in told:
        return told
    if answer.status_code == 401:
        raise Error("The server asks for a key, and knows none like this. Give it an admin key: --key or SACCADE_KEY.")
    reason = (told or {}).get("error")
    if not isinstance(reason, str):
        raise Error(f"{url} answered {answer.status_code} without a word of saccade's; is it a saccade server?")
    raise BadOptions(reason) if answer.status_code == 400 else Error(reason)


def check_key(key: str | None) -> None:
    """Raises BadOptions: it cannot stand in a header."""
    if key and not (key.isascii() and key.isprintable()):
        raise BadOptions("The key has signs that no key has. Give a key as it was shown: --key or SACCADE_KEY.")


def _document(answer: httpx.Response) -> dict[str, Any] | None:
    """The JSON object that a saccade answers; None from another server."""
    try:
        told = answer.json()
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
