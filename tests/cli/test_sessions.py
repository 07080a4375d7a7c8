"""Sessions are counted, listed, shown and ended from the command line, by their handles."""

import json

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import handle_of
from ..support.sessions import create, is_live, log_in
from .common import objects, rows, run

pytestmark = pytest.mark.on_cluster


@pytest.fixture
def at(session_redis_url: str, prefix: str) -> tuple[str, ...]:
    """Which store is meant."""
    return ("--redis", session_redis_url, "--prefix", prefix)


async def test_count(store: SessionStore, at: tuple[str, ...]) -> None:
    """All, or by the values of a field."""
    for tenant in ("acme", "acme", "globex"):
        await create(store, tenant=tenant)
    await log_in(store, "ann")
    assert rows("count", *at) == [["4"]]
    assert objects("count", *at) == [{"sessions": 4}]
    assert rows("count", "--by", "tenant", *at)[0] == ["2", "acme"]
    counted = {row["tenant"]: row["sessions"] for row in objects("count", "--by", "tenant", *at)}
    assert counted == {"acme": 2, "globex": 1, "-": 1}


async def test_list(store: SessionStore, at: tuple[str, ...]) -> None:
    """All, a user's, those with a value; what an app has stored can't control the terminal."""
    ann = await log_in(store, "ann", plan="gold", n=7)
    await log_in(store, "\x1b[31mred\t\n", plan="silver")
    assert len(rows("list", *at)) == 2
    assert "\x1b" not in run("list", *at).stdout
    for chosen in (("--user", "ann"), ("--where", "plan=gold"), ("--where", "n=7")):
        (row,) = rows("list", *chosen, *at)
        assert row[:2] == [handle_of(store, ann), "ann"]
        (shown,) = objects("list", *chosen, *at)
        assert shown["handle"] == handle_of(store, ann)
        assert "fields" not in shown
    assert rows("list", "--where", "plan=gold", "--where", "n=8", *at) == []
    assert rows("list", "--idle-for", "600", *at) == []
    assert ann not in run("list", *at, "--json").stdout


async def test_show(store: SessionStore, at: tuple[str, ...]) -> None:
    """One session with its values; no id."""
    session_id = await log_in(store, "ann", cart=["tea"], note="\x1b[2J")
    handle = handle_of(store, session_id)
    done = run("show", handle, *at)
    assert done.returncode == 0
    assert 'fields.cart\t["tea"]' in done.stdout.splitlines()
    assert session_id not in done.stdout
    assert "\x1b" not in done.stdout
    (shown,) = objects("show", handle, *at)
    assert (shown["user_id"], shown["fields"]["cart"]) == ("ann", ["tea"])
    absent = run("show", "0" * 32, *at)
    assert (absent.returncode, absent.stdout) == (1, "")


async def test_revoke(store: SessionStore, at: tuple[str, ...]) -> None:
    """One by its handle without a question; more than one after a yes."""
    one, two, three = [await log_in(store, "ann") for _ in range(3)]
    other = await log_in(store, "bob", plan="trial")
    assert run("revoke", handle_of(store, one), *at).stdout == "1 sessions have ended.\n"
    assert not await is_live(store, one)
    assert run("revoke", "--user", "ann", "--dry-run", *at).stdout == "2 sessions would end.\n"
    for answer in ("n\n", ""):
        refused = run("revoke", "--user", "ann", *at, answers=answer)
        assert refused.returncode == 1
        assert "End 2 sessions?" in refused.stderr  # its results are for other programs
        assert refused.stdout.strip() == ""
    assert await is_live(store, two)
    assert objects("revoke", "--user", "ann", "--dry-run", *at) == [{"would_end": 2}]
    done = run("revoke", "--user", "ann", "--reason", "moved out", *at, answers="y\n")
    assert done.stdout.endswith("2 sessions have ended.\n")
    assert not await is_live(store, three)
    assert run("revoke", "--where", "plan=gold", *at).stdout == "0 sessions have ended.\n"
    assert objects("revoke", "--where", "plan=gold", *at) == [{"ended": 0}]
    await log_in(store, "eve", plan="trial")
    done = run("revoke", "--where", "plan=trial", "--yes", *at)
    assert done.stdout == "2 sessions have ended.\n"
    assert not await is_live(store, other)


async def test_an_encrypted_value_is_not_compared(
    session_redis_url: str, prefix: str, at: tuple[str, ...]
) -> None:
    """It says how many it has left out."""
    options = {"prefix": prefix, "timeout": 20, "encryption": True}
    async with SessionStore.from_url(session_redis_url, **options) as store:  # type: ignore[arg-type]
        await create(store, plan="gold")
    done = run("list", "--where", "plan=gold", *at)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "1 sessions hold that field encrypted: not compared.\n"
    assert rows("count", "--by", "plan", *at) == [["1", "(encrypted)"]]


async def test_seed_makes_sessions(store: SessionStore, at: tuple[str, ...]) -> None:
    """With users, devices and carts; a bar shows how far it is."""
    done = run("seed", "40", "--users", "5", "--anonymous", "50", *at)
    assert (done.returncode, done.stdout) == (0, "40 sessions were created.\n")
    assert "100%" in done.stderr
    assert await store.count(keys_per_second=None) == 40
    infos = [info async for info in store.scan(keys_per_second=None)]
    devices = {info.label for info in infos if info.user_id is not None}
    browsers = ("Firefox on Windows", "Firefox on Linux", "Firefox Mobile on Android")
    assert devices <= {*browsers, "Safari on Mac OS X"}
    assert all((info.address is None) == (info.user_id is None) for info in infos)
    users = {info.user_id for info in infos} - {None}
    assert users <= {f"user-{number}" for number in range(5)}
    assert {"tenant", "cart"} <= infos[0].fields.keys()
    listed = sum([await store.users.count(user) for user in users if user is not None])
    assert listed == sum(info.user_id is not None for info in infos)
    assert json.loads(run("seed", "1", "--json", *at).stdout) == {"created": 1}
    assert await store.count(keys_per_second=None) == 41
