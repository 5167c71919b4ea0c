"""The one way in which this server fetches what a caller names: guarded, limited, and off unless switched on.

The address that is checked is the address that is connected to, so a name that resolves differently a second time
(DNS rebinding) gains nothing. Redirects are followed by hand and checked like the first address. Proxies from the
environment are not used: a proxy would connect to what we never saw.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import httpcore
import httpx

from saccade import __version__
from saccade.engine.aside import aside
from saccade.errors import BadInput, BadSettings, TooLarge

PORTS = (80, 443)
"""Ports that may be asked unless a pattern names another (``images.example.org:9000``)."""

MOST_REDIRECTS = 3
SIDE_BY_SIDE = 16
LONGEST_ADDRESS = 8192

TYPES = ("image/", "video/", "application/octet-stream", "binary/octet-stream", "application/mp4")
"""Content types that can be media; an answer without one is judged by its bytes like any upload."""

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

CLOSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4"),
        *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10"),
    )
)
"""Special networks that ``is_global`` of some Python versions takes for public ones. 2001::/23 holds Teredo."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")


class Fetcher:
    """Fetches images and videos from the hosts that the operator allowed.

    ``allowed`` holds host patterns (``*.example.org``, ``*`` for any public host, with ``:port`` for another port)
    and networks (``10.1.0.0/16``): addresses inside those may be asked although they are not public; anything else in
    it raises BadSettings.
    """

    def __init__(
        self,
        allowed: Sequence[str],
        *,
        max_bytes: int,
        timeout_s: float,
        resolve: Resolve | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._rules = _Rules(allowed)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(SIDE_BY_SIDE)
        self._tls = ssl.create_default_context()
        self._backend = _GuardedBackend(self._rules, resolve or _resolved, backend or httpcore.AnyIOBackend())

    async def __call__(self, address: str) -> bytes:
        """What lies at the address.

        Raises:
            BadInput: the address is not allowed, cannot be reached, or has no image or video.
            TooLarge: there is more than may be fetched.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                return await self._followed(self._checked(address))
        except TimeoutError:
            raise BadInput(f"The address did not answer within {self._timeout_s:g} seconds.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise BadInput("The address could not be reached, or does not speak HTTP.") from error

    async def _followed(self, url: httpx.URL) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            found = await self._asked(url)
            if isinstance(found, bytes):
                return found
            url = self._checked(found, url)
        raise BadInput(f"The address redirects more than {MOST_REDIRECTS} times.")

    def _checked(self, address: str, base: httpx.URL | None = None) -> httpx.URL:
        """The address, or where the one of ``base`` redirects to, if its form and its host are allowed."""
        if len(address) > LONGEST_ADDRESS:
            raise BadInput(f"The address is longer than {LONGEST_ADDRESS} characters.")
        try:
            url = httpx.URL(address.strip()) if base is None else base.join(address)
            host = url.host
        except (httpx.InvalidURL, UnicodeError):  # what is in "xn--" is read late
            raise BadInput("The address is not a valid URL.") from None
        if url.scheme not in ("http", "https") or not host:
            raise BadInput("The address must begin with http:// or https:// and name a host.")
        if url.port is not None and not 0 < url.port < 65536:
            raise BadInput(f"The address names the port {url.port}; expected one from 1 to 65535.")
        if url.userinfo:
            raise BadInput("The address must not hold a user name or password.")
        if not self._rules.names(url.raw_host.decode("ascii"), _port(url)):
            raise BadInput(
                f"This server does not fetch from '{host}' on port {_port(url)}. Send the image itself, or ask its "
                "operator to allow that with --allow-url."
            )
        return url

    async def _asked(self, url: httpx.URL) -> bytes | str:
        """The content, or where it moved."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers: list[tuple[bytes | str, bytes | str]] = [
            ("Host", url.netloc),
            ("User-Agent", f"saccade/{__version__}"),
            ("Accept", "image/*, video/*, */*;q=0.1"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        pool = httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=self._backend, retries=0)
        async with pool, pool.stream("GET", target, headers=headers) as response:
            named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and "location" in named:
                return named["location"]
            return await self._content(response, named)

    async def _content(self, response: httpcore.Response, headers: dict[str, str]) -> bytes:
        if response.status != 200:
            raise BadInput(f"The address answered with status {response.status}.")
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind and not kind.startswith(TYPES):
            raise BadInput(f"The address holds '{kind[:60]}'; expected an image or a video.")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise BadInput("The address answered in a packed form that was not asked for.")
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            raise self._too_large()
        content = bytearray()
        async for part in response.aiter_stream():
            content += part
            if len(content) > self._max_bytes:
                raise self._too_large()
        return bytes(content)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Payload too large: the file at the address has more than {self._max_bytes} bytes.")


class _Rules:
    """What the operator allowed."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._hosts: list[tuple[str, int | None]] = []
        self._networks: list[Network] = []
        for word in allowed:
            try:
                self._networks.append(ipaddress.ip_network(word.strip("[]"), strict=False))
            except ValueError:
                self._hosts.append(_pattern(word))

    def names(self, host: str, port: int) -> bool:
        """Whether the host may be asked at all; with networks, the addresses will tell."""
        return bool(self._networks) or self._fits(host, port)

    def allows(self, host: str, port: int, address: str) -> bool:
        """Whether this address of the host may be connected to."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if any(ip in network for network in self._networks if network.version == ip.version):
            return True
        return self._fits(host, port) and is_public(ip)

    def _fits(self, host: str, port: int) -> bool:
        return any(
            fnmatchcase(host.lower().rstrip("."), pattern) and (port in PORTS if named is None else port == named)
            for pattern, named in self._hosts
        )


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked; TLS and the Host header go on using the name."""

    def __init__(self, rules: _Rules, resolve: Resolve, inner: httpcore.AsyncNetworkBackend) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """One refused address among several refuses the host: the next connection could get that one."""
        addresses = await self._resolve(host.strip("[]"), port)
        if not addresses or not all(self._rules.allows(host, port, address) for address in addresses):
            raise BadInput(
                f"The host '{host}' has an address that this server does not fetch from: it asks public ones only, and "
                "those in networks that its operator allowed with --allow-url."
            )
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise BadInput("Sockets of this machine are not fetched from.")

    async def sleep(self, seconds: float) -> None:
        """httpcore's pause between retries."""
        await asyncio.sleep(seconds)


def is_public(ip: Address) -> bool:
    """Whether an address lies in the public internet, also behind its IPv6 disguises (mapped, 6to4, NAT64)."""
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = ip.ipv4_mapped
        if ip in NAT64:
            hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip in SIX_TO_FOUR:
            hidden = ip.sixtofour
        if hidden is not None:
            return is_public(hidden)
    if any(ip in network for network in CLOSED if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local)


def _pattern(word: str) -> tuple[str, int | None]:
    """A host pattern as addresses are compared with it, and its port if it names one.

    Raises:
        BadSettings: it is no pattern of hosts, such as an address with ``https://``.
    """
    host, colon, digits = word.strip().lower().rpartition(":")
    host, port = (host, int(digits)) if colon and digits.isdigit() else (word.strip().lower(), None)
    host = host.strip("[]").rstrip(".")
    if not host or any(sign in host for sign in "/@?#") or any(sign.isspace() for sign in host):
        raise BadSettings(
            f"The setting 'allow_url' holds '{word}'; expected a host such as images.example.org, *.example.org or "
            "images.example.org:9000, a network such as 10.1.0.0/16, or * for any public host."
        )
    try:
        return ".".join(map(_ascii, host.split("."))), port
    except httpx.InvalidURL:
        raise BadSettings(f"The setting 'allow_url' holds '{word}', which is no name of a host.") from None


def _ascii(label: str) -> str:
    """A part of a host's name as it goes over the wire."""
    return label if label.isascii() else httpx.URL(f"http://{label}").raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


async def _resolved(host: str, port: int) -> list[str]:
    """All addresses of a host, in the system's order, each once."""
    try:
        rows = await aside(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        raise BadInput(f"The host '{host[:100]}' is not known.") from error
    return list(dict.fromkeys(str(row[4][0]) for row in rows))
