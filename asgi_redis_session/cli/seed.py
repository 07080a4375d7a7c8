"""The command that makes sessions."""

import asyncio
import random
from typing import Annotated, Any

import typer
from rich.progress import Progress

from ..store import SessionStore
from .common import ASIDE, Prefix, Redis, with_store

_AT_ONCE = 50
#: What a session of `seed` holds, as a shop's might.
_TENANTS = ("acme", "globex", "initech")
_GOODS = ("tea", "cup", "kettle", "spoon", "honey", "lemon")


def seed(
    number: Annotated[int, typer.Argument(min=1, help="how many sessions")],
    redis: Redis,
    prefix: Prefix = "session",
    users: Annotated[int, typer.Option(min=1, help="how many users they belong to")] = 1000,
    anonymous: Annotated[int, typer.Option(min=0, max=100, help="per cent without a user")] = 20,
) -> None:
    """Create sessions with users and carts, for a load test. They end as others do."""

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

    with_store(redis, prefix, fill)
    typer.echo(f"{number} sessions were created.")


def _filling() -> dict[str, Any]:
    goods = random.sample(_GOODS, random.randint(0, 4))  # noqa: S311
    cart = [{"item": item, "quantity": random.randint(1, 3)} for item in goods]  # noqa: S311
    return {"tenant": random.choice(_TENANTS), "theme": "dark", "cart": cart}  # noqa: S311
