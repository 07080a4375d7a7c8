"""The command that sends requests to an app."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from .common import AsJson, print_json

#: The bars of the plot: how many, and how long.
_ROWS, _WIDTH = 12, 50


def bench(
    url: str,
    seconds: Annotated[float, typer.Option(min=0.1, help="how long")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, help="requests at the same time")] = 64,
    header: Annotated[
        list[str] | None, typer.Option(help="a header, as in 'Cookie: session=…'")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """
    Send requests to an app of yours, and show how long they take.

    Each connection sends the next request when it has the answer to the last one, and keeps the
    cookies that it is given. The client needs CPU, too: run it on another machine than the app.
    The exit status is 1 if a request failed, or was answered by 5xx.
    """
    import httpx  # noqa: PLC0415  (of the extra `bench`)

    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{url} is no URL of an app, as in http://localhost:8000/cart.")
    headers = [_header(text) for text in header or ()]
    certificates = ssl.create_default_context()  # slow, so all share it
    durations: list[float] = []
    answers: Counter[str] = Counter()

    async def browse(deadline: float) -> None:
        async with httpx.AsyncClient(headers=headers, verify=certificates, timeout=60) as client:
            while True:
                began = time.perf_counter()
                try:
                    answers[str((await client.get(url)).status_code)] += 1
                except httpx.TransportError as error:
                    answers[type(error).__name__] += 1
                durations.append(time.perf_counter() - began)
                if time.monotonic() >= deadline:
                    return

    async def run() -> float:
        began = time.monotonic()
        await asyncio.gather(*[browse(began + seconds) for _ in range(connections)])
        return time.monotonic() - began

    try:
        took = asyncio.run(run())
    except httpx.InvalidURL as error:
        raise typer.BadParameter(f"{url}: {error}.") from None
    _print_bench(sorted(durations), answers, took, as_json=as_json)
    failed = [answer for answer in answers if not answer.isdecimal() or answer >= "500"]
    raise typer.Exit(1 if failed else 0)


def _print_bench(
    durations: Sequence[float], answers: Mapping[str, int], took: float, *, as_json: bool
) -> None:
    parts = {f"p{part:g}": _percentile(durations, part) * 1000 for part in (50, 95, 99)}
    if as_json:
        rounded = {f"{name}_ms": round(value, 3) for name, value in parts.items()}
        rate = round(len(durations) / took, 1)
        print_json({"requests": len(durations), "per_second": rate, **rounded, "answers": answers})
        return
    typer.echo(f"{len(durations)} requests in {took:.1f} s: {len(durations) / took:.0f}/s")
    typer.echo("  ".join(f"{name} {value:.2f} ms" for name, value in parts.items()))
    for answer, number in sorted(answers.items()):
        typer.echo(f"{answer}: {number}")
    for line in _plot(durations):
        typer.echo(line)


def _plot(durations: Sequence[float]) -> list[str]:
    """Draw how many requests took how long, up to p99."""
    top = max(_percentile(durations, 99), 1e-9)
    counts = [0] * _ROWS
    for each in durations:
        if each <= top:
            counts[min(int(each / top * _ROWS), _ROWS - 1)] += 1
    most = max(counts)
    return [
        f"{top * 1000 * (row + 1) / _ROWS:9.2f} ms  {'█' * round(count / most * _WIDTH)} {count}"
        for row, count in enumerate(counts)
    ]


def _percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part / 100))]


def _header(text: str) -> tuple[str, str]:
    name, mark, value = text.partition(":")
    if not mark:
        raise typer.BadParameter(f"{text}: give a name and a value, as in 'Cookie: session=…'.")
    return name.strip(), value.strip()
