"""The pages of a customer: the shop, the sign-in, the devices."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Response
from fastapi.responses import JSONResponse

from ..fastapi import CurrentUser, SessionDep
from ..session import Session
from .goods import PRODUCTS, Branch, Currency, Theme, cart_of, field_of
from .pages import back, page
from .shop import ShopDep

__all__ = ["routes"]

routes = APIRouter()

#: With "remember me": how long a device may rest, and how long it is remembered at most.
_REMEMBERED_IDLE, _REMEMBERED = timedelta(days=14), timedelta(days=90)
#: How long a session lives unused that was asked to end soon.
_SOON = timedelta(seconds=90)
#: Why there is no session, for those who had one. `{reason}` is what the end was given.
_WHY = {
    "revoked": "This device was signed out: {reason}.",
    "expired": "Your session has ended, because it was not used.",
    "unknown": "Your session has ended.",
}


@routes.get("/")
async def show(shop: ShopDep, session: SessionDep) -> Response:
    """Show the goods, the cart and the preferences."""
    return await page("shop", shop, session)


@routes.get("/api/session")
async def describe(session: SessionDep) -> JSONResponse:
    """Return what the shop knows of this customer."""
    names = [name for name in session if name not in map(field_of, PRODUCTS)]
    cart = {"cart": inside} if (inside := cart_of(session)) else {}
    return JSONResponse({"user": session.user_id, **{n: session[n] for n in names}, **cart})


@routes.post("/cart/{sku}")
async def put(session: SessionDep, sku: str, by: Annotated[Literal["1", "-1"], Form()]) -> Response:
    """Put one into the cart, or take one out: atomically, also in two tabs at once."""
    if sku not in PRODUCTS:
        raise HTTPException(404, "There is no such product.")
    if by == "-1" and sku not in cart_of(session):
        return back("/#cart")
    session.setdefault("branch", "harbour")
    if await session.increment(field_of(sku), int(by)) < 0:
        await session.increment(field_of(sku))  # another tab was faster
    return back(f"/#{sku}" if by == "1" else "/#cart")


@routes.post("/preferences")
async def prefer(
    session: SessionDep,
    theme: Annotated[Theme, Form()],
    currency: Annotated[Currency, Form()],
    branch: Annotated[Branch, Form()] = "harbour",
) -> Response:
    """Keep the preferences: one commit writes those that differ."""
    session.update(theme=theme, currency=currency, branch=branch)
    return back("/#preferences")


# --- Signing in and out ---


@routes.get("/login")
async def ask(shop: ShopDep, session: SessionDep) -> Response:
    """Ask for a name, and say why, if the customer was signed in before."""
    return await page("login", shop, session, why=_why_signed_out(session))


@routes.post("/login")
async def login(
    session: SessionDep,
    name: Annotated[str, Form(max_length=40)],
    remember: Annotated[bool, Form()] = False,  # noqa: FBT002  (a field of the form)
) -> Response:
    """Sign in, with any name. The session gets a new id."""
    user = name.strip() or "Guest"
    if remember:
        await session.login(user, idle=_REMEMBERED_IDLE, absolute=_REMEMBERED, persistent=True)
    else:
        await session.login(user, persistent=False)
    return back("/")


@routes.post("/logout")
async def logout(session: SessionDep) -> Response:
    """Sign this device out."""
    await session.logout()
    return back("/")


# --- Devices ---


@routes.get("/devices")
async def devices(shop: ShopDep, session: SessionDep) -> Response:
    """Show where the customer is signed in."""
    if session.user_id is None:
        return await page("login", shop, session, status=401, why=_why_signed_out(session))
    infos = await shop.store.users.list(session.user_id, current=session)
    return await page("devices", shop, session, devices=infos)


@routes.post("/devices/{handle}/end")
async def end(shop: ShopDep, user: CurrentUser, handle: str) -> Response:
    """End one of the customer's own devices; the handle of another's does nothing."""
    await shop.store.users.revoke(user, handle, reason="ended on another device")
    return back("/devices")


@routes.post("/devices/end-others")
async def end_others(shop: ShopDep, session: SessionDep, user: CurrentUser) -> Response:
    """End all devices of the customer but this one."""
    await shop.store.users.revoke_others(session, reason=f"{user} ended all other devices")
    return back("/devices")


@routes.post("/devices/end-all")
async def end_all(shop: ShopDep, session: SessionDep, user: CurrentUser) -> Response:
    """Sign out everywhere."""
    await shop.store.users.revoke_all(user, reason="signed out everywhere")
    await session.logout()
    return back("/")


@routes.post("/session/soon")
async def end_soon(session: SessionDep) -> Response:
    """Let this session end unless it is used again soon, to see how that looks."""
    if not session.is_new:
        session.set_lifetime(idle=_SOON)
    return back("/devices")


def _why_signed_out(session: Session) -> str:
    absence = session.absence
    if absence is None or absence.kind not in _WHY:  # first visits, logouts
        return ""
    return _WHY[absence.kind].format(reason=absence.reason)
