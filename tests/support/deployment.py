"""What docs/deployment.md says, as options of a server and as stores."""

from datetime import timedelta
from typing import Any

from starlette.responses import JSONResponse

from asgi_redis_session import Durability, SessionStore
from asgi_redis_session.doctor import CheckReport

from .documents import blocks

DOCUMENT = "docs/deployment.md"


STORES = [block for block in blocks(DOCUMENT, "python") if block.startswith("store = ")]


ACL = blocks(DOCUMENT, "text")[0].split()


def conf(number: int) -> dict[str, str]:
    """A block of redis.conf, as DevServer takes it."""
    lines = blocks(DOCUMENT, "conf")[number].splitlines()
    options = {}
    for line in [line for line in lines if not line.startswith("#")]:
        words = 2 if line.startswith("sentinel ") else 1
        parts = line.split(" ", words)
        options[" ".join(parts[:words])] = parts[words]
    return options


def documented(number: int, replace: dict[str, str], **options: Any) -> SessionStore:
    """
    The store of a block, at the addresses of the test. Its timeout is one that a busy machine does
    not reach, unless the block or *options* name another.
    """
    code = STORES[number]
    for old, new in replace.items():
        assert old in code, old
        code = code.replace(old, new)
    namespace: dict[str, Any] = {
        "SessionStore": lambda: None,
        "Durability": Durability,
        "timedelta": timedelta,
        "JSONResponse": JSONResponse,
    }
    namespace["SessionStore"] = type(
        "Store",
        (),
        {
            "from_url": staticmethod(
                lambda url, **more: SessionStore.from_url(url, **{"timeout": 20} | more | options)
            )
        },
    )
    exec(code, namespace)
    store: SessionStore = namespace["store"]
    return store


def problems(report: CheckReport) -> list[str]:
    return [f"{finding.name}: {finding.message}" for finding in report.of("problem")]


def advice(report: CheckReport) -> set[str]:
    return {finding.name for finding in report.of("advice")}
