"""Passwords and tokens that change while the store is connected, from a credential provider."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.sentinel import Sentinel
from redis.auth.token import SimpleToken
from redis.credentials import CredentialProvider, StreamingCredentialProvider

from asgi_redis_session import SessionStore, SessionUnavailable
from asgi_redis_session.devserver import DevServer

from ..support.deployment import DOCUMENT, problems
from ..support.documents import blocks
from ..support.internals import check_out_often, open_session
from ..support.servers import Cluster, Sentinels, ask
from ..support.sessions import create, works

pytestmark = pytest.mark.anywhere

#: The least time (seconds) for which the event loop lets others run.
A_TURN = 0.005


class Blocking(CredentialProvider):
    """Has only the method that may block, as most providers for hosted services do."""

    def __init__(self) -> None:
        self.token = "token-1"
        self.threads: set[int] = set()

    def get_credentials(self) -> tuple[str, str]:
        self.threads.add(threading.get_ident())
        return "app", self.token


class Asking(CredentialProvider):
    """Has the method that may wait."""

    def __init__(self) -> None:
        self.token = "token-1"

    async def get_credentials_async(self) -> tuple[str, str]:
        await asyncio.sleep(0)
        return "app", self.token


class Streaming(StreamingCredentialProvider, Asking):
    """Reports each new token to the one callback that it keeps, as redis-entraid's does."""

    report: Callable[[Any], Awaitable[None]]

    def on_next(self, callback: Any) -> None:
        self.report = callback

    def on_error(self, callback: Any) -> None:
        pass

    def is_streaming(self) -> bool:
        return True


PROVIDERS = [Blocking, Asking, Streaming]
ALLOW = ("ACL", "SETUSER", "app", "reset", "on", ">token-1", "~*", "&*", "+@all")


class Deployment:
    """Servers with a user `app`, and a client of them that takes a credential provider."""

    def __init__(self, servers: list[DevServer], client: Callable[[Any], Any]) -> None:
        self.servers = servers
        self.client = client

    def connections(self) -> set[tuple[int, str]]:
        """Those of the user."""
        return {
            (server.port, one["id"])
            for server in self.servers
            for one in ask(server, "CLIENT LIST")
            if one["user"] == "app"
        }

    def everywhere(self, *command: str) -> None:
        for server in self.servers:
            ask(server, *command)


@contextmanager
def one_server() -> Iterator[Deployment]:
    with DevServer(search=False) as server:
        yield Deployment(
            [server], lambda provider: Redis(port=server.port, credential_provider=provider)
        )


@contextmanager
def cluster() -> Iterator[Deployment]:
    with Cluster() as found:
        nodes = [ClusterNode("127.0.0.1", node.port) for node in found.nodes]
        yield Deployment(
            found.nodes,
            lambda provider: RedisCluster(startup_nodes=nodes, credential_provider=provider),
        )


@contextmanager
def sentinel() -> Iterator[Deployment]:
    with Sentinels(1, 1) as found:
        places = [("127.0.0.1", each.port) for each in found.sentinels]
        yield Deployment(
            found.servers,
            lambda provider: Sentinel(places).master_for(  # type: ignore[no-untyped-call]
                found.SERVICE, credential_provider=provider
            ),
        )


DEPLOYMENTS = [one_server, cluster, sentinel]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
@pytest.mark.parametrize("kind", PROVIDERS)
async def test_a_new_token_is_used_before_the_old_one_ends(
    deployment: Any, kind: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections move to the new token while requests run, and none of these fails."""
    check_out_often(monkeypatch)
    provider = kind()
    with deployment() as found:
        found.everywhere(*ALLOW)
        client = found.client(provider)
        async with SessionStore(client, prefix=prefix, timeout=20) as store:
            ids = [await create(store, n=0) for _ in range(6)]
            old = found.connections()
            found.everywhere("ACL", "SETUSER", "app", ">token-2")
            provider.token = "token-2"
            while old & found.connections():
                for session_id in ids:
                    await open_session(store, session_id).increment("n")
                await asyncio.sleep(A_TURN)
            # From now on the service ends what has used the old one.
            found.everywhere("ACL", "SETUSER", "app", "<token-1")
            for session_id in ids:
                await works(store, session_id)
            assert store.stats.errors == 0
        await client.aclose()


async def test_a_provider_that_blocks_has_a_thread(prefix: str) -> None:
    """A call to a service, inside the provider, holds up no other request."""
    provider = Blocking()
    with one_server() as found:
        found.everywhere(*ALLOW)
        async with SessionStore(found.client(provider), prefix=prefix, timeout=20) as store:
            await create(store, n=1)
    assert provider.threads
    assert threading.get_ident() not in provider.threads


async def test_the_apps_own_client_still_hears_of_new_tokens(prefix: str) -> None:
    """The callback that a streaming provider keeps is that of the client; ours is another way."""
    provider = Streaming()
    with one_server() as found:
        found.everywhere(*ALLOW)
        async with found.client(provider) as client:
            async with SessionStore(client, prefix=prefix, timeout=20) as store:
                await create(store, n=1)
                await client.ping()
                (mine,) = {one["id"] for one in await client.client_list()} & {
                    str(await client.client_id())
                }
                found.everywhere("ACL", "SETUSER", "app", ">token-2", "<token-1")
                provider.token = "token-2"
                await provider.report(SimpleToken("token-2", -1, 0, {"oid": "app"}))
                assert str(await client.client_id()) == mine


async def test_a_provider_that_fails_ends_no_connection(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it fails, what is connected stays; what has to connect gets its reason, in a 503."""
    check_out_often(monkeypatch)

    class Failing(Asking):
        fails = False
        asked = 0

        async def get_credentials_async(self) -> tuple[str, str]:
            self.asked += 1
            if self.fails:
                raise LookupError("the vault is sealed")
            return await super().get_credentials_async()

    provider = Failing()
    with one_server() as found:
        found.everywhere(*ALLOW)
        async with SessionStore(found.client(provider), prefix=prefix, timeout=20) as store:
            session_id = await create(store, n=0)
            before, connected = provider.asked, found.connections()
            provider.fails = True
            while provider.asked < before + 3:
                await open_session(store, session_id).increment("n")
                await asyncio.sleep(A_TURN)
            assert found.connections() == connected
            found.everywhere("CLIENT", "KILL", "USER", "app")
            with pytest.raises(SessionUnavailable, match="provider raised LookupError: the vault"):
                await open_session(store, session_id).load()  # is sent again on a new connection
            assert "the vault is sealed" in problems(await store.check())[0]
            provider.fails = False
            assert (await open_session(store, session_id).load())["n"] > 0


async def test_the_documented_provider(prefix: str) -> None:
    """The code of the document, with a file instead of a vault."""
    with one_server() as found:
        found.everywhere("ACL", "SETUSER", "sessions", "on", ">secret", "~*", "+@all")
        (code,) = [block for block in blocks(DOCUMENT, "python") if "class FromVault" in block]
        place = f'"127.0.0.1", port={found.servers[0].port}'
        for old, new in {'"redis.example.com"': place, ", ssl=True": ""}.items():
            assert old in code
            code = code.replace(old, new)
        namespace: dict[str, Any] = {
            "SessionStore": SessionStore,
            "vault": SimpleNamespace(read=lambda path: "secret"),
        }
        exec(code, namespace)
        async with namespace["store"] as store:
            await works(store, await create(store, n=0))
