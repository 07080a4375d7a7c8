"""
Who runs, and in which environment.

Each module here is one small app with the same routes (`shop.py`, `shop_fastapi.py`), set up as the
session library's own documents recommend. `added` CPU is counted against the contender named by
`baseline`, which is the same app without sessions, in the same environment.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import TimestampSigner

SECRET = "a secret of the benchmark"
#: Five fields, as small as a session's usually are.
FIELDS = {"user": "ada", "n": 1, "theme": "dark", "cart": ["SKU-1"], "currency": "EUR"}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """
    *clone*: a new cookie value, and the key under which a copy of a session's hash or string must
    stand for that cookie to find it (None: the session is in the cookie). *main*: measured in every
    part of the run, not only in the reads and writes at 64 connections. *limit*: no peer; it
    does the least that could be done, guards nothing, and is there to compare with.
    """

    name: str
    title: str
    baseline: str | None
    clone: Callable[[], tuple[str, str | None]] | None = None
    environment: str = ".venv-bench"
    main: bool = True
    ours: bool = False
    limit: bool = False

    @property
    def in_redis(self) -> bool:
        return self.clone is not None and self.clone()[1] is not None

    @property
    def is_peer(self) -> bool:
        """Whether an app could use it instead of this library, with its sessions in Redis."""
        return self.in_redis and not self.ours and not self.limit


def _urlsafe(prefix: str) -> Callable[[], tuple[str, str]]:
    def clone() -> tuple[str, str]:
        session_id = secrets.token_urlsafe(32)
        return session_id, prefix + session_id

    return clone


def _starsessions() -> tuple[str, str]:
    session_id = secrets.token_hex(16)
    return session_id, f"starsessions.{session_id}"


def _starlette_session() -> tuple[str, str]:
    key = secrets.token_hex(16)
    return signed({"_cssid": key}), key


def _ours() -> tuple[str, str]:
    session_id = secrets.token_urlsafe(32)
    return session_id, f"session:{hashlib.sha256(session_id.encode()).hexdigest()[:32]}"


def _signed_cookie() -> tuple[str, None]:
    return signed(FIELDS | {"currency": secrets.choice(("EUR", "USD", "GBP"))}), None


def signed(data: object) -> str:
    """A cookie as Starlette and starlette-session make it."""
    return _signer.sign(base64.b64encode(json.dumps(data).encode())).decode()


_signer = TimestampSigner(SECRET)

CONTENDERS = (
    Contender(name="starlette", title="Starlette, no session", baseline=None),
    Contender(
        name="signed_cookie",
        title="Starlette, signed cookie",
        baseline="starlette",
        clone=_signed_cookie,
    ),
    Contender(
        name="by_hand",
        title="redis.asyncio by hand, a pipeline per request",
        baseline="starlette",
        clone=_urlsafe("session:"),
    ),
    Contender(
        name="shared_pipeline",
        title="one pipeline for all requests, unguarded",
        baseline="starlette",
        clone=_urlsafe("session:"),
        limit=True,
    ),
    Contender(
        name="guide",
        title="redis.io guide, WATCH and MULTI",
        baseline="starlette",
        clone=_urlsafe("session:"),
    ),
    Contender(
        name="starsessions_redis",
        title="starsessions",
        baseline="starlette",
        clone=_starsessions,
    ),
    Contender(
        name="ours",
        title="asgi-redis-session",
        baseline="starlette",
        clone=_ours,
        ours=True,
    ),
    Contender(
        name="ours_autoload",
        title="asgi-redis-session, autoload",
        baseline="starlette",
        clone=_ours,
        main=False,
        ours=True,
    ),
    Contender(
        name="starlette_old",
        title="Starlette 0.52, no session",
        baseline=None,
        environment=".venv-bench-old",
        main=False,
    ),
    Contender(
        name="starlette_session_redis",
        title="starlette-session",
        baseline="starlette_old",
        clone=_starlette_session,
        environment=".venv-bench-old",
        main=False,
    ),
    Contender(name="fastapi_bare", title="FastAPI, no session", baseline=None, main=False),
    Contender(
        name="fastapi_redis_sdk",
        title="fastapi-redis-sdk",
        baseline="fastapi_bare",
        clone=_urlsafe("redis:fastapi:session:"),
    ),
    Contender(
        name="ours_fastapi",
        title="asgi-redis-session on FastAPI",
        baseline="fastapi_bare",
        clone=_ours,
        main=False,
        ours=True,
    ),
    Contender(
        name="ours_fastapi_autoload",
        title="asgi-redis-session on FastAPI, autoload",
        baseline="fastapi_bare",
        clone=_ours,
        main=False,
        ours=True,
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
