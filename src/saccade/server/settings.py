"""All settings as one typed, frozen value: defaults < ``saccade.toml`` < ``SACCADE_*`` < flags.

Names are the same everywhere: ``max_body_bytes`` in code and file, ``SACCADE_MAX_BODY_BYTES`` in the environment,
``--max-body-bytes`` as a flag. Lists are written with commas in the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
import platformdirs
from msgspec import Meta

from saccade.errors import BadSettings

FILE = "saccade.toml"
PREFIX = "SACCADE_"
OTHERS = ("config", "url", "key")
"""What else variables tell: where the settings are, and to the commands that talk to a server, how."""
ORCHESTRATED = re.compile(r"SACCADE_(SERVICE_(HOST|PORT)(_.*)?|PORT_\d+_.*|PORT=(tcp|udp)://.*)")
"""What Kubernetes tells of a service that is called saccade."""

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*?#@]+|null|\*")
"""What browsers send as ``Origin``, and all of them."""

LARGEST = (1 << 63) - 1
"""The largest whole number that processes tell each other, and that databases keep."""

HERE = "here"
"""How this cluster is called among the regions."""

Text: TypeAlias = tuple[str, ...]


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another saccade that this one knows: where it is and how to reach it."""

    name: str
    url: str
    place: str = ""
    key: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may choose; the descriptions are the documentation."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    home: Annotated[str, Meta(description="Where models, keys and caches live (default: the user's data folder).")] = ""
    models: Annotated[Text, Meta(description="Folders of own models; files that appear there are served.")] = ()
    preload: Annotated[Text, Meta(description="Models that are loaded before the server reports ready.")] = ()
    default_model: Annotated[
        str, Meta(description="Model of requests that name none (default: the only one, else picodet-s).")
    ] = ""
    no_auth: Annotated[bool, Meta(description="Ask for no key, on any host.")] = False

    precision: Annotated[
        Literal["auto", "f32"], Meta(description="`auto`: the machine's fastest; `f32`: the reference's numbers.")
    ] = "auto"
    device: Annotated[Literal["cpu", "cuda"], Meta(description="What models run on.")] = "cpu"
    threads: Annotated[int, Meta(ge=0, description="CPU threads for everything; 0: all that this process may use.")] = 0
    memory_bytes: Annotated[
        int, Meta(ge=0, description="Memory for resident models; 0: chosen from what this machine has.")
    ] = 0
    converter_python: Annotated[
        str,
        Meta(description="Python with `saccade[transformers]` that makes graphs of checkpoints (default: this one)."),
    ] = ""
    converter_images: Annotated[
        Text,
        Meta(
            description="Photos, or folders of which the first eight are taken, on which a new graph is compared with "
            "its checkpoint (default: four drawn pictures)."
        ),
    ] = ()

    fronts: Annotated[
        int,
        Meta(ge=0, le=64, description="Processes that take callers (on Linux); 0: one for every 8 threads, 1 to 4."),
    ] = 0
    isolate: Annotated[bool, Meta(description="Run every model in a process of its own.")] = True
    replicas: Annotated[
        int, Meta(ge=1, le=64, description="Processes for every model of the shared API, side by side.")
    ] = 1
    fork_workers: Annotated[
        bool,
        Meta(
            description="Copy those processes from one that has imported what they need: they are there sooner and "
            "share memory (on Linux, without a GPU)."
        ),
    ] = True
    worker_memory_bytes: Annotated[
        int, Meta(ge=0, description="Memory of one worker before it is replaced; 0: no limit of its own.")
    ] = 0
    min_residency_s: Annotated[
        float, Meta(ge=0, description="Shortest stay of a model in memory before it makes room for another one.")
    ] = 30.0
    max_batch: Annotated[
        int,
        Meta(ge=0, le=1024, description="Images in one run of a model; 1: no batches; 0: measured when it is loaded."),
    ] = 0
    decode_timeout_s: Annotated[
        float, Meta(gt=0, description="Longest time for decoding one image; then its worker is ended.")
    ] = 20.0
    hang_timeout_s: Annotated[float, Meta(ge=1, description="Longest silence of a worker before it is replaced.")] = (
        30.0
    )
    check_interval_s: Annotated[
        float,
        Meta(ge=0, description="How often models are tried on a known picture, to see that they still see; 0: never."),
    ] = 60.0

    queue_calls: Annotated[
        int, Meta(ge=1, description="Calls that may wait for one model before more are refused.")
    ] = 64
    queue_total_calls: Annotated[int, Meta(ge=1, description="Calls that may wait for all models together.")] = 1024
    admission_dry_run: Annotated[
        bool, Meta(description="Count the calls that would be refused as too many, and take them all the same.")
    ] = False
    cache_bytes: Annotated[int, Meta(ge=0, description="Memory for cached answers; 0 switches the cache off.")] = (
        64 << 20
    )
    cache_ttl_s: Annotated[float, Meta(gt=0, description="How long an answer stays in the cache.")] = 3600.0

    database_url: Annotated[
        str, Meta(description="SQLAlchemy URL for keys and usage (default: SQLite under home).")
    ] = ""
    redis_url: Annotated[str, Meta(description="Redis for quotas shared by several machines.")] = ""
    quota_calls: Annotated[
        int, Meta(ge=0, description="Calls that one key may make per window; 0: no limit. A key may have its own.")
    ] = 100
    quota_window_s: Annotated[int, Meta(ge=1, description="Length of the sliding quota window in seconds.")] = 3600

    max_body_bytes: Annotated[int, Meta(ge=1, description="Largest request body, also after decompression.")] = (
        128 << 20
    )
    max_inflight_bytes: Annotated[
        int, Meta(ge=1, description="All request bodies held at one time; none may be larger.")
    ] = 1 << 30
    max_header_bytes: Annotated[int, Meta(ge=1024, description="Largest request head.")] = 64 << 10
    max_pixels: Annotated[int, Meta(ge=1, description="Largest image, in pixels.")] = 64_000_000
    max_frames: Annotated[int, Meta(ge=1, description="Longest video, in frames, whatever the stride.")] = 9_000
    max_seconds: Annotated[float, Meta(gt=0, description="Longest video, in seconds.")] = 600.0

    request_timeout_s: Annotated[
        float, Meta(gt=0, description="Longest time for one call; `X-Request-Timeout` may shorten it.")
    ] = 120.0
    video_timeout_s: Annotated[float, Meta(gt=0, description="Longest time for one call with a video.")] = 1800.0
    load_timeout_s: Annotated[
        float, Meta(gt=0, description="Longest time that a call waits for its model to be fetched and loaded.")
    ] = 300.0
    body_timeout_s: Annotated[
        float,
        Meta(gt=0, description="Longest time for a caller to send head or body, or to read nothing of an answer."),
    ] = 60.0
    drain_timeout_s: Annotated[
        float, Meta(ge=0, description="Longest wait for accepted calls when the server is asked to stop.")
    ] = 60.0

    allow_url: Annotated[
        Text, Meta(description="Hosts from which image addresses may be fetched (`*`: any public one); empty: none.")
    ] = ()
    url_max_bytes: Annotated[int, Meta(ge=1, description="Largest file that is fetched from an address.")] = 64 << 20
    url_timeout_s: Annotated[float, Meta(gt=0, description="Longest time for fetching an address.")] = 20.0

    legacy_normalize: Annotated[
        bool, Meta(description="First Ultralytics API: answer 0 to 1 instead of pixels when a call does not say.")
    ] = False
    legacy_response: Annotated[
        Literal["l1", "l2", "hub"],
        Meta(description="First Ultralytics API: the generation that answers calls which could be of any."),
    ] = "l1"
    hub_topk: Annotated[
        int, Meta(ge=1, description="HUB: labels of a classification; 1 is the strict form of HUB's own time.")
    ] = 5
    clamp_arguments: Annotated[
        bool, Meta(description="Ultralytics APIs: move numbers into their range instead of refusing them.")
    ] = False
    hf_cold_503: Annotated[
        bool, Meta(description="Hugging Face routes: answer 503 while a model loads, instead of holding the call.")
    ] = False
    cors_origins: Annotated[
        Text, Meta(description="Web origins whose pages may call the APIs; `*`: all; empty: none.")
    ] = ("*",)
    access_log: Annotated[bool, Meta(description="Write one line per request.")] = True

    forward: Annotated[
        Literal["never", "when_busy", "nearest"],
        Meta(
            description="Send calls of the shared URL to the nearest healthy region: `when_busy`: those refused here; "
            "`nearest`: all."
        ),
    ] = "never"
    ray_replicas: Annotated[
        str, Meta(description="On Ray: fewest and most replicas of the shared API, as MIN:MAX.")
    ] = "1:4"
    ray_cpus: Annotated[float, Meta(gt=0, description="On Ray: processors that one replica takes.")] = 1.0
    ray_proxies: Annotated[
        Literal["every_node", "head_only"], Meta(description="On Ray: the nodes that listen on `port`.")
    ] = "every_node"
    regions: Annotated[tuple[Region, ...], Meta(description="Other clusters (tables in `saccade.toml` only).")] = ()


GROUPS = {
    "host": "The server",
    "precision": "Computing",
    "fronts": "Processes",
    "queue_calls": "Queues and cache",
    "database_url": "Keys and quotas",
    "max_body_bytes": "Limits of a request",
    "request_timeout_s": "Times",
    "allow_url": "Addresses of images",
    "legacy_normalize": "The APIs",
    "forward": "Regions and Ray",
}
"""The first setting of each group, in the order of the fields, and what the group is about."""


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], folder: Path | None = None, file: Path | None = None
) -> Settings:
    """The settings in force. ``flags`` left at None count as not given.

    The file is ``file``, else ``SACCADE_CONFIG``, else ``saccade.toml`` in ``folder`` (the working directory), else
    in the home.

    Raises:
        BadSettings: naming the setting, where it was set, what was found and what was expected.
    """
    given: dict[str, object] = {name: value for name, value in flags.items() if value is not None}
    home = _home(str(given.get("home") or environ.get(PREFIX + "HOME") or ""))
    here = folder or _here()
    path = file or _file(environ, here, home)
    called = FILE if path is None or path == here / FILE else str(path)
    written = _read(path, called) if path else {}
    values: dict[str, Any] = {"home": str(home)}
    for source, layer in ((called, written), ("environment", _from(environ)), ("flags", given)):
        for name, value in layer.items():
            values[name] = _checked(name, value, source)
    values["home"] = _said(_home(values["home"]).absolute())
    settings = Settings(**values)
    most = settings.max_inflight_bytes  # a larger body is too large, and would not fit when there is less to do either
    return msgspec.structs.replace(
        settings, max_body_bytes=min(settings.max_body_bytes, most), url_max_bytes=min(settings.url_max_bytes, most)
    )


def grouped() -> dict[str, list[str]]:
    """The names of all settings under the titles of their groups."""
    groups: dict[str, list[str]] = {}
    title = ""
    for name in NAMES:
        title = GROUPS.get(name, title)
        groups.setdefault(title, []).append(name)
    return groups


def table() -> str:
    """All settings as Markdown tables; the documentation holds a copy that a test compares."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    parts = []
    for title, names in grouped().items():
        rows = [f"## {title}", "", "| setting | default | meaning |", "|---|---|---|"]
        for name in names:
            rows.append(f"| `{name}` | {_default(name, defaults[name])} | {meaning(name)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _default(name: str, value: object) -> str:
    """What a setting is if nobody sets it, and what else it may be where only a few words are taken."""
    if value in ("", ()):
        return ""
    hint = get_args(ANNOTATED[name])[0]
    others = [_shown(word) for word in get_args(hint) if word != value] if get_origin(hint) is Literal else []
    return _shown(value) + (f"; or {', '.join(others)}" if others else "")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "`" + ", ".join(str(item) for item in value) + "`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _home(name: str) -> Path:
    try:
        return Path(name or platformdirs.user_data_dir("saccade", appauthor=False)).expanduser()
    except RuntimeError:  # a user whom the system does not know, as containers have them, and no HOME
        found = f"'{name}'" if name else "the user's data folder"
        raise BadSettings(
            f"Cannot tell where {found} is, because the system knows no home directory for it. Name a whole path with "
            "--home or SACCADE_HOME."
        ) from None


def _said(home: Path) -> str:
    """The path as text that other processes and libraries can be told."""
    try:
        return str(home).encode().decode()
    except UnicodeEncodeError:
        raise BadSettings(
            f"The path of the home '{home}' is not written in UTF-8. Name another with --home or SACCADE_HOME."
        ) from None


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise BadSettings("The folder in which this was started is gone. Go to one that is there.") from None


def _file(environ: Mapping[str, str], folder: Path, home: Path) -> Path | None:
    named = environ.get(PREFIX + "CONFIG")
    if named:
        return Path(named).expanduser()
    # Unlike Path.is_file(), this takes folders into which this user may not look, as root's home under sudo.
    return next((path for path in (folder / FILE, home / FILE) if os.path.isfile(path)), None)


def _read(path: Path, called: str) -> dict[str, object]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin with a mark
    except OSError as error:
        raise BadSettings(f"{called} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{called} is not valid TOML: {error}.") from error
    for name in document:
        if name.replace("-", "_") not in NAMES:
            near = difflib.get_close_matches(name.replace("-", "_"), NAMES, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else " The documentation lists all settings."
            raise BadSettings(f"{called} has a setting '{name}', which saccade does not know.{hint}")
    for name in document:
        if "-" in name and (other := name.replace("-", "_")) in document:
            raise BadSettings(
                f"{called} has both '{name}' and '{other}', which are one setting. Leave out one of them."
            )
    return {name.replace("-", "_"): value for name, value in document.items()}


def _from(environ: Mapping[str, str]) -> dict[str, object]:
    if PREFIX + "REGIONS" in environ:
        raise BadSettings(f"{PREFIX}REGIONS says nothing to saccade: regions are tables, [[regions]], in {FILE} alone.")
    for variable in environ:
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name not in (*NAMES, *OTHERS) and not ORCHESTRATED.fullmatch(variable):
            near = difflib.get_close_matches(name, (*NAMES, *OTHERS), n=1, cutoff=0.75)
            if near:
                raise BadSettings(f"There is no variable '{variable}'. Did you mean '{PREFIX}{near[0].upper()}'?")
    named = {
        name: None if ORCHESTRATED.fullmatch(f"{PREFIX}{name.upper()}={value}") else value
        for name in NAMES
        if name != "regions" and (value := environ.get(PREFIX + name.upper())) is not None
    }
    return {name: _split(name, value) for name, value in named.items() if value is not None}


def _split(name: str, value: str) -> object:
    if HINTS[name] is not Text:
        return value.strip()
    return [item.strip() for item in value.split(",") if item.strip()]


def _checked(name: str, value: object, source: str) -> object:
    """The value as the setting's type, or a BadSettings that names all three."""
    if HINTS[name] is bool and isinstance(value, str):
        value = SWITCH.get(value.lower(), value)
    if HINTS[name] is Text and isinstance(value, str):
        value = [value]
    try:
        checked = msgspec.convert(value, ANNOTATED[name], strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        wrong = f": {error}" if name == "regions" else f"; expected {_expected(name)}"
        raise BadSettings(f"The setting '{name}' ({source}) is {_told(value)}{wrong}. {meaning(name)}") from error
    if isinstance(checked, int) and checked > LARGEST:
        raise BadSettings(f"The setting '{name}' ({source}) is {checked}; expected at most {LARGEST}. {meaning(name)}")
    if name == "regions":
        _check_regions(checked, source)
    if name == "host":
        _check_host(checked, source)
    if name == "cors_origins":
        return tuple(_origin(word, source) for word in checked)
    return checked


def _check_host(host: str, source: str) -> None:
    """Raises BadSettings: it is more than a host; elsewhere that would be taken for one which others can reach."""
    with suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return
    if ":" in host or "/" in host:
        raise BadSettings(
            f"The setting 'host' ({source}) is '{host}'; expected an address or a name alone, such as 127.0.0.1. The "
            "port has a setting of its own, 'port'."
        )


def _origin(word: str, source: str) -> str:
    """An origin as browsers send it. Raises BadSettings: no browser sends one like this."""
    origin = word.lower().rstrip("/")
    if not ORIGIN.fullmatch(origin):
        raise BadSettings(
            f"The setting 'cors_origins' ({source}) holds '{word}'; expected origins such as https://app.example.org "
            "or http://localhost:3000, each without a path and in full, or '*' for all."
        )
    return origin


def _told(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if any(isinstance(item, dict) for item in value) else f"[{', '.join(map(_told, value))}]"
    return repr(value) if isinstance(value, str) else str(value)


def _expected(name: str) -> str:
    """What a setting takes, in words."""
    hint = HINTS[name]
    if get_origin(hint) is Literal:
        return " or ".join(f"'{word}'" for word in get_args(hint))
    if hint in (int, float):
        limits = next(meta for meta in get_args(ANNOTATED[name]) if isinstance(meta, Meta))
        what = "a whole number" if hint is int else "a number"
        least = f"> {limits.gt}" if limits.gt is not None else f">= {limits.ge}"
        return f"{what} {least}" + (f" and <= {limits.le}" if limits.le is not None else "")
    return {bool: "true or false", str: "a text"}.get(hint, "a list of texts")


def _check_regions(regions: tuple[Region, ...], source: str) -> None:
    """Raises BadSettings: a name says nothing or means two places, or an address is none that saccade can call."""
    for number, region in enumerate(regions, 1):
        if not region.name.strip() or not region.name.isprintable():
            raise BadSettings(
                f"Region {number} ({source}) has no name that can be printed. Give it one, such as 'oslo'."
            )
        if region.name == HERE:
            raise BadSettings(
                f"Region {number} ({source}) is called '{HERE}', which is how this server itself is called. Give it "
                "another name."
            )
        if any(region.name == other.name for other in regions[: number - 1]):
            raise BadSettings(f"Two regions ({source}) are called '{region.name}'. Give each a name of its own.")
        if not _is_http(region.url):
            raise BadSettings(
                f"The url of the region '{region.name}' ({source}) is '{region.url}'; expected an http address such as "
                "https://oslo.example.org:8000."
            )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.query or parts.fragment)
            and url.isprintable()
            and " " not in url
        )
    except ValueError:  # a port or an address in brackets that is none
        return False


def meaning(name: str) -> str:
    """What a setting is for, in a sentence."""
    return next(
        (meta.description for meta in get_args(ANNOTATED[name]) if isinstance(meta, Meta) and meta.description), ""
    )


SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
ANNOTATED: dict[str, Any] = get_type_hints(Settings, include_extras=True)
HINTS: dict[str, Any] = get_type_hints(Settings)
NAMES: tuple[str, ...] = tuple(field.name for field in msgspec.structs.fields(Settings))
