"""The guarded fetcher: only public addresses, checked where the connection is made, within limits."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest

from saccade.errors import BadInput, Error, TooLarge
from saccade.server.fetch import SIDE_BY_SIDE, Fetcher, _resolved, is_public


class Site(BaseHTTPRequestHandler):
    """Pictures, redirects and trouble."""

    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self.server.seen.append({**dict(self.headers), "path": self.path})  # type: ignore[attr-defined]
        where = self.path
        if where.startswith("/to/"):
            self.reply(302, b"", {"Location": where[4:]})
        elif where.startswith("/again/"):
            self.reply(302, b"", {"Location": f"/again/{int(where[7:]) - 1}" if where != "/again/1" else "/photo"})
        elif where == "/page":
            self.reply(200, b"<html>", {"Content-Type": "text/html"})
        elif where == "/big":
            self.reply(200, bytes(5000), {"Content-Type": "image/png"})
        elif where == "/promised":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            time.sleep(1.5)
        elif where == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(bytes(1000))
        elif where == "/slow":
            time.sleep(1.5)
            self.reply(200, b"late", {})
        elif where == "/packed":
            self.reply(200, b"x", {"Content-Encoding": "gzip"})
        elif where == "/none":
            self.reply(200, b"bytes", {})
        elif where in ("/photo", "/photo?size=1"):
            self.reply(200, b"picture", {"Content-Type": "image/jpeg"})
        else:
            self.reply(404, b"", {})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Quiet(ThreadingHTTPServer):
    """Has ended with all its threads when it is closed. Who leaves is no news: a traceback, written while a later
    test parses, breaks Python's parser."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[ThreadingHTTPServer]:
    server = Quiet(("127.0.0.1", 0), Site)
    server.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Wire(httpcore.AsyncNetworkBackend):
    """Leads every connection to the local site, and remembers which address was meant."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[tuple[str, int]] = []
        self.inner = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        self.asked.append((host, port))
        return await self.inner.connect_tcp("127.0.0.1", self.port)

    async def connect_unix_socket(self, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        raise AssertionError


class Names:
    """A name server whose answers change from question to question; the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(rows) for name, rows in answers.items()}
        self.questions: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.questions.append(host)
        rows = self.answers[host]
        return rows.pop(0) if len(rows) > 1 else rows[0]


def fetched(address: str, *allowed: str, **more: Any) -> bytes:
    async def fetch() -> bytes:
        return await Fetcher(allowed, max_bytes=4000, timeout_s=0.8, **more)(address)

    return asyncio.run(fetch())


def local(site: ThreadingHTTPServer, path: str, *allowed: str) -> bytes:
    return fetched(f"http://127.0.0.1:{site.server_port}{path}", *(allowed or ("127.0.0.0/8",)))


def test_a_picture_is_fetched_with_its_own_host_name_and_no_proxy(
    site: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    wire, names = Wire(site.server_port), Names(photos_example=[["8.8.8.8", "2606:4700::1"]])
    assert fetched("http://Photos.example/photo?size=1", "*", resolve=names, backend=wire) == b"picture"
    assert wire.asked == [("8.8.8.8", 80)]
    assert site.seen[-1]["Host"].lower() == "photos.example"  # type: ignore[attr-defined]
    assert site.seen[-1]["path"] == "/photo?size=1"  # type: ignore[attr-defined]


def test_name_servers_that_do_not_answer_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop's own threads also unpack bodies, read large requests and draw."""
    over = threading.Event()

    def silent(*given: Any, **more: Any) -> Any:
        over.wait(20)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    async def play() -> float:
        fetch = Fetcher(["*"], max_bytes=1000, timeout_s=5.0)
        asked = [asyncio.ensure_future(fetch(f"http://{number}.example.org/a.jpg")) for number in range(SIDE_BY_SIDE)]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await asyncio.to_thread(int)
        took_s = time.monotonic() - begun
        over.set()
        assert all(isinstance(one, BadInput) for one in await asyncio.gather(*asked, return_exceptions=True))
        return took_s

    try:
        assert asyncio.run(asyncio.wait_for(play(), 30)) < 1.0
    finally:
        over.set()


def test_a_name_that_changes_its_address_gains_nothing(site: ThreadingHTTPServer) -> None:
    wire, names = Wire(site.server_port), Names(rebind_example=[["8.8.8.8"], ["127.0.0.1"]])
    assert fetched("http://rebind.example/photo", "*", resolve=names, backend=wire) == b"picture"
    assert (names.questions, wire.asked) == (["rebind.example"], [("8.8.8.8", 80)])
    with pytest.raises(BadInput, match="public"):
        fetched("http://rebind.example/photo", "*", resolve=names, backend=wire)
    assert len(wire.asked) == 1


def test_one_private_address_among_public_ones_refuses_the_host(site: ThreadingHTTPServer) -> None:
    wire, names = Wire(site.server_port), Names(mixed_example=[["8.8.8.8", "10.0.0.1"]])
    with pytest.raises(BadInput, match="public"):
        fetched("http://mixed.example/photo", "*", resolve=names, backend=wire)
    assert wire.asked == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        *(
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "100::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ),
    ],
)
def test_no_address_outside_the_public_internet_passes(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(BadInput, match="public"):
        fetched("http://x.example/photo", "*", resolve=Names(x_example=[[address]]), backend=Wire(1))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_pass_in_every_form(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *(
            "file:///etc/hostname",
            "ftp://example.org/x",
            "gopher://x",
            "javascript:1",
            "//example.org/x",
            "/etc/passwd",
        ),
        *("http://", "http:///x", "http://user:word@example.org/", "http://user@example.org/", "", "data:image/png,x"),
        *("http://exa mple.org/", "http://[::1", "http://example.org:99999/", "http://" + "x" * 9000),
        *(
            "http://2130706433/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://localhost/",
            "http://[::1]/",
            "http://0/",
        ),
        *("http://[::ffff:127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://127.0.0.1./", "https://localhost/"),
        *("http://example.org:22/", "http://example.org:6379/", "http://example.org:8080/"),
    ],
)
def test_addresses_in_other_forms_are_refused(site: ThreadingHTTPServer, address: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8"] if host == "example.org" else await _resolved(host, port)

    wire = Wire(site.server_port)
    with pytest.raises(Error) as caught:
        fetched(address, "*", resolve=resolve, backend=wire)
    assert isinstance(caught.value, BadInput)
    assert wire.asked == []


def test_of_several_addresses_the_next_is_tried_where_one_does_not_answer(site: ThreadingHTTPServer) -> None:
    class HalfWire(Wire):
        async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
            if ":" in host:
                raise httpcore.ConnectError("no route")
            return await super().connect_tcp(host, port)

    names = Names(photos_example=[["2606:4700::1", "8.8.8.8"]])
    assert fetched("http://photos.example/photo", "*", resolve=names, backend=HalfWire(site.server_port)) == b"picture"


def test_an_address_of_one_link_is_no_public_one(site: ThreadingHTTPServer) -> None:
    names, wire = Names(near_example=[["fe80::1%eth0"]]), Wire(site.server_port)
    with pytest.raises(BadInput, match="public ones only"):
        fetched("http://near.example/photo", "*", resolve=names, backend=wire)
    assert fetched("http://near.example/photo", "fe80::/10", resolve=names, backend=wire) == b"picture"


def test_only_allowed_hosts_and_ports_are_asked(site: ThreadingHTTPServer) -> None:
    names = Names(a_example_org=[["8.8.8.8"]], a_example_org_=[["8.8.8.8"]], evil_org=[["8.8.8.8"]])

    def fetch(address: str, *allowed: str) -> bytes:
        return fetched(address, *allowed, resolve=names, backend=Wire(site.server_port))

    assert fetch("http://a.example.org/photo", "*.example.org") == b"picture"
    assert fetch("http://a.example.org./photo", "*.example.org") == b"picture"
    assert fetch("http://a.example.org:9000/photo", "a.example.org:9000") == b"picture"
    for address in ("http://evil.org/photo", "http://evil.org/?.example.org", "http://a.example.org:81/photo"):
        with pytest.raises(BadInput, match="does not fetch from"):
            fetch(address, "*.example.org")


def test_networks_that_the_operator_names_may_be_asked(site: ThreadingHTTPServer) -> None:
    assert local(site, "/photo") == b"picture"
    assert local(site, "/none") == b"bytes"
    with pytest.raises(BadInput):
        local(site, "/photo", "10.0.0.0/8")
    with pytest.raises(BadInput):
        local(site, "/photo", "*")


def test_redirects_are_followed_three_times_and_checked_each_time(site: ThreadingHTTPServer) -> None:
    assert local(site, "/again/3") == b"picture"
    with pytest.raises(BadInput, match="more than 3"):
        local(site, "/again/4")
    wire, names = Wire(site.server_port), Names(a_example=[["8.8.8.8"]], inside_example=[["10.0.0.1"]])
    for inner in ("http://inside.example/photo", "http://127.0.0.1/photo", "file:///etc/hostname", "http://[::1]/"):
        with pytest.raises(BadInput):
            fetched(f"http://a.example/to/{inner}", "*.example", resolve=names, backend=wire)
    assert {address for address, _ in wire.asked} == {"8.8.8.8"}


@pytest.mark.parametrize("address", ["http://[::1", "http://xn--/", "http://a:99999/", f"http://a/{9000 * chr(97)}"])
def test_an_address_that_is_none_is_told_also_where_a_site_redirects_to_it(
    site: ThreadingHTTPServer, address: str
) -> None:
    for asked in (address, f"http://127.0.0.1:{site.server_port}/to/{address}"):
        with pytest.raises(BadInput, match=r"not a valid URL|names the port 99999|longer than 8192"):
            fetched(asked, "0.0.0.0/0")


def test_size_time_type_and_encoding_are_limited(site: ThreadingHTTPServer) -> None:
    for path in ("/big", "/endless", "/promised"):
        with pytest.raises(TooLarge, match="4000"):
            local(site, path)
    for path, words in (("/slow", "seconds"), ("/page", "text/html"), ("/packed", "packed"), ("/gone", "404")):
        with pytest.raises(BadInput, match=words):
            local(site, path)


def test_what_cannot_be_reached_is_said_without_details() -> None:
    with pytest.raises(BadInput, match="could not be reached"):
        fetched("http://127.0.0.1:9/x", "127.0.0.0/8")
    with pytest.raises(BadInput, match="not known"):
        fetched("http://no-such-host.invalid/x", "*")


def test_tls_names_the_host_and_a_wrong_certificate_is_refused(site: ThreadingHTTPServer) -> None:
    class Tls(Wire):
        name = ""

        async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
            wire = self

            class Stream(httpcore.AsyncMockStream):
                async def start_tls(self, ssl_context: Any, server_hostname: Any = None, timeout: Any = None) -> Any:
                    wire.name = server_hostname
                    assert ssl_context.check_hostname
                    return self

            self.asked.append((host, port))
            answer = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 2\r\n\r\nhi"
            return Stream([answer])

    wire = Tls(site.server_port)
    names = Names(safe_example=[["8.8.8.8"]])
    assert fetched("https://safe.example/x", "*", resolve=names, backend=wire) == b"hi"
    assert (wire.name, wire.asked) == ("safe.example", [("8.8.8.8", 443)])
