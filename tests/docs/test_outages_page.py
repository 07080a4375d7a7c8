"""What docs/errors.md says of outages begins with the words that the log really has."""

import logging
import os
import re
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import redis

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.documents import ROOT
from ..support.internals import open_session

pytestmark = pytest.mark.anywhere

PAGE = (ROOT / "docs/errors.md").read_text()

Trouble = Callable[[ExitStack], str]


def _rows(kind: str) -> list[str]:
    """The texts of the first column of this section's table."""
    section = PAGE.partition(f"### `{kind}`\n")[2].partition("\n### ")[0]
    table = section.partition("| the line says |")[2]
    return [
        text
        for row in re.findall(r"^    \| (`.*?) \|", table, re.MULTILINE)
        for text in re.findall("`(.*?)`", row)
    ]


def _server(things: ExitStack, **options: str | int) -> DevServer:
    names = {name.replace("_", "-"): value for name, value in options.items()}
    return things.enter_context(DevServer(options=names, search=False))


def _ask(server: DevServer, *command: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*command)


def _silent(things: ExitStack) -> str:
    server = _server(things)
    os.kill(server.pid, signal.SIGSTOP)
    things.callback(os.kill, server.pid, signal.SIGCONT)
    return server.url


def _away(things: ExitStack) -> str:
    with ExitStack() as before:
        return _server(before).url


def _locked(things: ExitStack) -> str:
    server = _server(things)
    _ask(server, "CONFIG", "SET", "requirepass", "another one")
    return server.url


def _full(things: ExitStack) -> str:
    server = _server(things)
    _ask(server, "CONFIG", "SET", "maxmemory", "1")
    return server.url


def _forbidden(things: ExitStack) -> str:
    server = _server(things)
    _ask(server, "ACL", "SETUSER", "default", "-hset")
    return server.url


def _replica(things: ExitStack) -> str:
    master = _server(things, repl_diskless_sync_delay=0)
    return _server(things, replicaof=f"127.0.0.1 {master.port}").url


def _alone(things: ExitStack) -> str:
    return _server(things, min_replicas_to_write=1).url


def _disk(things: ExitStack) -> str:
    server = _server(things, dbfilename="taken", save="3600 1")
    (server.directory / "taken").mkdir()
    with redis.Redis.from_url(server.url) as client:
        client.bgsave()
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            pass
    return server.url


TROUBLES: dict[str, tuple[str, Trouble]] = {
    "did not answer within": ("redis_silent", _silent),
    "ConnectionError": ("redis_silent", _away),
    "refused the credentials": ("redis_silent", _locked),
    "used memory > 'maxmemory'": ("redis_refuses", _full),
    "no permissions": ("redis_refuses", _forbidden),
    "read only replica": ("redis_refuses", _replica),
    "NOREPLICAS": ("redis_refuses", _alone),
    "MISCONF": ("redis_refuses", _disk),
}


@pytest.mark.parametrize("words", TROUBLES)
async def test_the_log_has_the_words_of_the_page(
    words: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has the line finds its row."""
    kind, trouble = TROUBLES[words]
    assert words in _rows(kind)
    with ExitStack() as things:
        url = trouble(things)
        async with SessionStore.from_url(url, prefix=prefix, timeout=0.5) as store:
            with caplog.at_level(logging.WARNING), pytest.raises(SessionUnavailable):
                session = await open_session(store).load()
                session["n"] = 1
                await session.save()
    (record,) = [each for each in caplog.records if vars(each).get("event") == kind]
    assert words in record.getMessage()
