"""
Many tenants, each on a domain of its own: what keeps a session with its tenant?

    uvicorn examples.recipes.tenants:app

Browsers do: a cookie without `domain=` belongs to one host. But a cookie can be copied to another
host by hand, so the session holds its tenant, and a user's id names it too: "7" of one tenant is
not "7" of another. $REDIS_URL names your Redis.
"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request

from asgi_redis_session import CookiePolicy, Session, SessionMiddleware
from asgi_redis_session.fastapi import SessionDep

TENANTS = {"acme.localhost": "acme", "bolt.localhost": "bolt"}


async def tenant_of(request: Request) -> str:
    tenant = TENANTS.get(request.url.hostname or "")
    if tenant is None:
        raise HTTPException(404, "No such site.")
    return tenant


Tenant = Annotated[str, Depends(tenant_of)]


async def session_of_tenant(session: SessionDep, tenant: Tenant) -> Session:
    if session.get("tenant", tenant) != tenant:
        raise HTTPException(403, "This session belongs to another site.")
    return session


TenantSession = Annotated[Session, Depends(session_of_tenant)]
app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)


@app.post("/login/{user}")
async def login(session: TenantSession, tenant: Tenant, user: str) -> None:
    await session.login(f"{tenant}:{user}")
    session["tenant"] = tenant


@app.get("/")
async def me(session: TenantSession) -> str | None:
    return session.user_id
