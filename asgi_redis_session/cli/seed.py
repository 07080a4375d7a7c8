"""The command that makes sessions."""

import asyncio
import random
from typing import Annotated, Any

import typer
from rich.progress import Progress

from ..store import SessionStore
from .common import ASIDE, AsJson, Prefix, Redis, print_number, with_store

_AT_ONCE = 50
#: What a session of `seed` holds, as a shop's might.
_TENANTS = ("acme", "globex", "initech")
_GOODS = ("tea", "cup", "kettle", "spoon", "honey", "lemon")
#: What browsers of four kinds of device say of themselves.
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (Android 15; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/26.0 Safari/605.1.15",
)


def seed(  # noqa: PLR0917  (typer calls it with keywords)
    number: Annotated[int, typer.Argument(min=1, help="how many sessions")],
    redis: Redis,
    prefix: Prefix = "session",
    users: Annotated[int, typer.Option(min=1, help="how many users they belong to")] = 1000,
    anonymous: Annotated[int, typer.Option(min=0, max=100, help="per cent without a user")] = 20,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Create sessions with users, devices and carts, for a load test. They end as others do."""

    async def fill(store: SessionStore) -> None:
        with Progress(console=ASIDE) as progress:
            task = progress.add_task("sessions", total=number)
            numbers = iter(range(number))

            async def work() -> None:
                for each in numbers:
                    async with store.open(None) as opened:
                        opened.session.update(_filling())
                        if random.randrange(100) >= anonymous:  # noqa: S311  (no secret)
                            await opened.session.login(f"user-{each % users}")
                    progress.advance(task)

            await asyncio.gather(*[work() for _ in range(_AT_ONCE)])

    with_store(redis, prefix, fill, record_origin=_device)
    print_number("created", number, "sessions were created.", as_json=as_json)


def _filling() -> dict[str, Any]:
    goods = random.sample(_GOODS, random.randint(0, 4))  # noqa: S311
    cart = [{"item": item, "quantity": random.randint(1, 3)} for item in goods]  # noqa: S311
    return {"tenant": random.choice(_TENANTS), "theme": "dark", "cart": cart}  # noqa: S311


def _device(_address: str | None, _agent: str | None) -> tuple[str, str]:
    """From where a login comes: a network for documentation (RFC 5737), and some browser."""
    return f"203.0.113.{random.randint(1, 254)}", random.choice(_AGENTS)  # noqa: S311
