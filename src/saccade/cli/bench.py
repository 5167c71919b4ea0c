"""``saccade bench``: how fast a model is on this machine, alone and behind the server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import click

from saccade.cli import table
from saccade.cli.house import Place, compiled, counted, ended_cleanly, fetched, library, model_options, settings
from saccade.cli.load import Report, drive, loopback_only
from saccade.cli.talk import check_key
from saccade.errors import BadOptions, Error

WARM_UP = 5
LABELS = "cat,dog,person,car"
"""What a zero-shot model looks for if nobody says."""
START_S = 900.0
"""How long a server may take until the model is there; it may first have to be fetched and converted."""
READY = re.compile(r"saccade ready on (http://\S+)")


@click.command(name="bench")
@click.argument("ref", default="picodet-s")
@click.option("--image", type=Place(exists=True, dir_okay=False), help="The photo to send (default: a made one).")
@click.option("--calls", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Calls per measurement.")
@click.option("--concurrency", default="1,4,16", show_default=True, help="Callers at one time, with commas between.")
@click.option("--url", help="Measure the server that runs there, instead of starting one. This machine only.")
@click.option("--key", envvar="SACCADE_KEY", help="An access key, where the server asks for one.")
@click.option("--labels", help="What a zero-shot model looks for, for example cat,dog.")
@click.option("--precision", type=click.Choice(["auto", "f32"]), help="auto: fastest; f32: the reference's numbers.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="What to compute on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@model_options
def COMMAND(
    ref: str,
    image: str | None,
    calls: int,
    concurrency: str,
    url: str | None,
    key: str | None,
    labels: str | None,
    precision: str | None,
    device: str | None,
    as_json: bool,
    folders: tuple[str, ...],
    home: str | None,
) -> None:
    """Measure the model REF: the bare model in this process, then over HTTP with several callers at a time.

    REF is picodet-s unless another is named.
    """
    levels = _levels(concurrency)
    photo = Path(image).read_bytes() if image else made_photo()
    report: dict[str, Any] = {"model": ref, "bytes": len(photo)}
    if url:
        loopback_only(url)
        check_key(key)
        _check_alone(home=home, models=folders, precision=precision, device=device)
        with counted("measuring") as tell:
            report |= _over_http(_target(url, ref, labels), photo, key, levels, calls, tell)
    else:
        given = settings(home=home, models=folders or None, precision=precision, device=device)
        card = fetched(library(given), ref)
        report |= {"precision": given.precision, "device": given.device, "threads": _threads(given)}
        if card.task == "zero-shot-classify":
            labels = labels or LABELS
        with counted("measuring the bare model"):
            report["bare"] = _bare(card, given, photo, labels, calls)
        with counted("measuring a server") as tell, ended_cleanly(), _served(given, ref) as (address, process):
            report |= _over_http(_target(address, ref, labels), photo, None, levels, calls, tell)
            report["memory_bytes"] = _memory(process.pid)
    click.echo(json.dumps(report, indent=1)) if as_json else _print(report)


def _check_alone(**given: object) -> None:
    """Raises BadOptions: something is to be changed about a server that runs already."""
    for name, value in given.items():
        if value:
            raise BadOptions(f"--url measures a server as it runs, and --{name} changes nothing there: leave one out.")


def made_photo() -> bytes:
    """A JPEG of 1080×810 smooth shapes, always the same."""
    import numpy as np

    from saccade.ops.draw import jpeg

    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (28, 37, 3)).astype(np.float32)
    rows = np.linspace(0, 27, 810).astype(int)
    columns = np.linspace(0, 36, 1080).astype(int)
    return jpeg(coarse[rows][:, columns].astype(np.uint8), 88)


def _levels(text: str) -> list[int]:
    try:
        levels = [int(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or min(levels) < 1 or max(levels) > 1024:
        raise BadOptions(
            f"--concurrency is {text!r}; expected numbers from 1 to 1024 with commas between, such as 1,4,16."
        )
    return levels


def _bare(card: Any, given: Any, photo: bytes, labels: str | None, calls: int) -> list[dict[str, Any]]:
    """Bytes to result in this process: one call after the other, then as many at a time as there are cores."""
    from saccade import media
    from saccade.call import Options
    from saccade.model import Model
    from saccade.runtimes.session import Compute

    options = Options(candidate_labels=tuple(map(str.strip, labels.split(","))) if labels else None)
    threads = _threads(given)
    compute = Compute(
        precision=given.precision,
        device=given.device,
        threads=threads,
        streams=threads,
        cache_dir=compiled(given),
    )
    model = Model(card, compute)

    def once(_: int) -> float:
        started = time.perf_counter()
        model.predict(media.decode(photo).rgb, options)
        return time.perf_counter() - started

    try:
        return [_measured(once, calls, callers) for callers in dict.fromkeys((1, threads))]
    finally:
        model.close()


def _threads(given: Any) -> int:
    from saccade.discover import budget

    return int(given.threads or budget().threads)


def _measured(once: Any, calls: int, callers: int) -> dict[str, Any]:
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(once, range(WARM_UP * callers)))
        started = time.perf_counter()
        seconds = list(pool.map(once, range(calls)))
        return Report(callers, seconds, whole_s=time.perf_counter() - started).figures()


def _target(url: str, ref: str, labels: str | None) -> str:
    words = f"?candidate_labels={quote(labels)}" if labels else ""
    return f"{url.rstrip('/')}/models/{quote(ref)}{words}"


def _over_http(
    target: str, photo: bytes, key: str | None, levels: list[int], calls: int, tell: Callable[[int, int], None]
) -> dict[str, Any]:
    """Rows of the callers' numbers, and what the callers themselves took of the processor; ``tell`` hears how many
    measurements are done."""
    headers = {"content-type": "image/jpeg", "x-use-cache": "false"} | (
        {"authorization": f"Bearer {key}"} if key else {}
    )

    async def all_levels() -> list[Report]:
        await drive(target, photo, headers, concurrency=max(levels), calls=max(levels) + WARM_UP)
        reports = []
        for number, level in enumerate(levels):
            tell(number, len(levels))
            reports.append(await drive(target, photo, headers, concurrency=level, calls=max(calls, level)))
        return reports

    reports = asyncio.run(all_levels())
    if not any(report.seconds for report in reports):
        raise Error(f"Every call to {target} was refused: {_refusal(reports[0])}")
    answered = sum(len(report.seconds) for report in reports)
    own_ms = 1e3 * sum(report.own_cpu_s for report in reports) / answered
    return {"http": [report.figures() for report in reports], "callers_cpu_ms": round(own_ms, 3)}


def _refusal(report: Report) -> str:
    """Status and message of the first refusal."""
    status = next(iter(report.statuses))
    try:
        told = json.loads(report.refusal)
        text = str(told.get("error") or told.get("message")) if isinstance(told, dict) else ""
    except ValueError:
        text = ""
    return f"{status} {text}".strip()


@contextmanager
def _served(given: Any, ref: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of our own on a free port, for as long as it is measured."""
    words = ["--host", "127.0.0.1", "--port", "0", "--no-auth", "--no-access-log", "--preload", ref]
    words += ["--home", given.home, "--precision", given.precision, "--device", given.device]
    words += [word for folder in given.models for word in ("--models", folder)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "saccade", "serve", *words]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environ)
        try:
            yield _address(process, log), process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[str], log: IO[str], patience_s: float = START_S) -> str:
    """Where the server is once it is ready.

    Raises:
        Error: it ended, with its last words, or is not ready in time.
    """
    began, late = time.monotonic(), threading.Timer(patience_s, process.kill)
    late.start()
    try:
        for line in process.stdout or ():
            found = READY.search(line)
            if found:
                return found[1]
    finally:
        late.cancel()
    if time.monotonic() - began >= patience_s:
        raise Error(f"The server that was to be measured is not ready after {patience_s:g} s.")
    log.seek(0)
    last = (log.read().strip().splitlines() or ["it said nothing"])[-1]
    raise Error(f"The server that was to be measured did not start: {last.removeprefix('Error: ')}")


def _memory(pid: int) -> int:
    """Bytes held by the server and its workers; shared pages count once where the system tells."""
    import psutil

    server = psutil.Process(pid)
    total = 0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.Error):
            used = process.memory_full_info()
            total += getattr(used, "pss", used.rss)
    return total


def _print(report: dict[str, Any]) -> None:
    from rich.text import Text

    how = f", {report['precision']} on {report['device']}, {report['threads']} threads" if "bare" in report else ""
    click.echo(f"{report['model']}{how}, {report['bytes'] / 1e3:.0f} kB a photo")
    rows = []
    for name, measured in (("bare model", report.get("bare", ())), ("over HTTP", report["http"])):
        for row in measured:
            shown = (row["per_second"], row["p50_ms"], row["p90_ms"], row["p99_ms"])
            refused = ", ".join(f"{count} × {status}" for status, count in row["refused"].items())
            failed = Text(refused, "red") if refused else "0"
            rows.append((name, str(row["concurrency"]), *(f"{value:.1f}" for value in shown), failed))
    numbers = ("callers", "calls/s", "p50 ms", "p90 ms", "p99 ms", "failed")
    table.show(("", *numbers), rows, whole=numbers, right=numbers)
    if "memory_bytes" in report:
        click.echo(f"Server and workers hold {report['memory_bytes'] / 1e6:.0f} MB.")
    click.echo(f"Of the processor, the callers themselves took {report['callers_cpu_ms']:.2f} ms a call.")
