"""Whatever the bytes of a session are, no request fails and no code runs."""

import pickle
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asgi_redis_session import Session, SessionEvent, SessionStore
from asgi_redis_session.engine.codec import decode

from ..support.examples import examples
from ..support.internals import open_session
from ..support.page import Page
from ..support.values import same
from .evidence import Bomb, Evidence, executed

pytestmark = pytest.mark.on_cluster


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_pickle_is_never_executed(
    admin: redis.Redis, store: SessionStore, protocol: int
) -> None:
    """Bytes that would run code when unpickled run nothing, wherever they are planted."""
    raw = pickle.dumps(Bomb(), protocol)
    plants: list[dict[Any, Any]] = [{"bad": raw}, {raw: "1"}]
    plants += [{name: raw} for name in ("@v", "@created", "@deadline", "@idle", "@user", "@auth")]
    for fields in plants:
        evidence = Evidence(admin, store)
        evidence.hash(fields)
        await open_session(store, evidence.id).load()
        await open_session(store, evidence.id).fetch("bad")
        await store.get(evidence.handle)
    assert executed == []


_raw = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"1", b"0", b"-1", b"1700000000000", b"9" * 20, b"1e5", b"[1,2", b"nan", b""]),
    st.integers(-5, 2**45).map(lambda n: b"%d" % n),
)


_ours = st.sampled_from([b"@created", b"@deadline", b"@idle", b"@auth", b"@seen", b"@user"])


@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.builds(
        dict.__or__,
        st.dictionaries(st.binary(max_size=6), _raw, max_size=4),
        st.dictionaries(_ours, _raw, max_size=6),
    )
)
@example({b"@deadline": b"99999999999999999999"})
@example({b"@created": b"99999999999999999999"})
@example({b"@idle": b"99999999999999999999"})
@example({b"@idle": b"1", b"@auth": b""})
@example({b"@deadline": b"1", b"a": b"1"})
@example({b"@user": b"ada", b"a": b"1", b"b": b"[1]"})
@example({b"a": b"[1"})
async def test_whatever_a_hash_holds_no_request_fails(
    admin: redis.Redis,
    store: SessionStore,
    page: Page,
    events: list[SessionEvent],
    fields: dict[bytes, bytes],
) -> None:
    """A hash with random fields and metadata: requests that read, then write, all get their 200."""
    evidence = Evidence(admin, store)
    evidence.hash(fields)
    evidence.seal()
    stored: Any = admin.hgetall(evidence.key)
    theirs = {name: raw for name, raw in stored.items() if not name.startswith(b"@")}
    page.client.cookies.clear()
    page.client.cookies.set("session", evidence.id)
    events.clear()
    try:

        def inspect(session: Session) -> dict[str, Any]:
            repr(session)
            for name in ("handle", "user_id", "created_at", "authenticated_at", "expires_at"):
                getattr(session, name)
            return dict(session)

        assert (await page(inspect)).status_code == 200
        match [event.name for event in events]:
            case ["corrupt"]:
                assert page.seen == {}
                # An idle time of a few milliseconds may be over by now, or while we look.
                assert evidence.is_untouched() or (
                    b"@idle" in fields and not admin.exists(evidence.key)
                )
            case ["unknown_id"]:
                assert page.seen == {}
                assert {b"@deadline", b"@idle"} & fields.keys()
                assert not admin.exists(evidence.key)
            case names:
                assert names == []
                assert same(page.seen, {name.decode(): decode(raw) for name, raw in theirs.items()})
        await store.get(evidence.handle)
        assert (await page(lambda session: session.update(z=1))).status_code == 200
    finally:
        admin.delete(evidence.key)
