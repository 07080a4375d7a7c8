"""One Cluster for all tests of the folder."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asgi_redis_session import SessionStore

from ..support.servers import Cluster, plain_client


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, 1) as cluster:
        yield cluster


@pytest.fixture
def healthy(cluster: Cluster) -> Cluster:
    """All nodes agree: an earlier test may have made them change their roles."""
    cluster.await_healthy()
    return cluster


@pytest.fixture
async def store(healthy: Cluster, prefix: str) -> AsyncIterator[SessionStore]:
    async with SessionStore.from_url(healthy.url, prefix=prefix, timeout=20) as store:
        yield store


@pytest.fixture
def admin(healthy: Cluster) -> Iterator[Any]:
    with plain_client(healthy.url) as client:
        yield client
