"""A FastHTML app in a process of its own: importing FastHTML changes Starlette's routes."""

import os
from functools import partial

from fasthtml.common import FastHTML, P, RedirectResponse
from fasthtml.toaster import add_toast, setup_toasts

from asgi_redis_session import SessionStore
from asgi_redis_session.dropin import SessionMiddleware

store = SessionStore.from_url(os.environ["REDIS_URL"], prefix=os.environ["SESSION_PREFIX"])
app = FastHTML(  # `fast_app` ignores `sess_cls` silently
    sess_cls=partial(SessionMiddleware, store=store, import_cookies=True),
    secret_key="a secret of the app, long enough",
)
rt = app.route
setup_toasts(app)


@rt("/")
def home(session):  # type: ignore[no-untyped-def]
    return P(f"Hello {session.get('auth', 'stranger')}")


@rt("/login")  # type: ignore[untyped-decorator]
def login(session, name: str):  # type: ignore[no-untyped-def]
    session["auth"] = name
    add_toast(session, f"Welcome, {name}", "info")
    return RedirectResponse("/", 303)


@rt("/logout")
def logout(session):  # type: ignore[no-untyped-def]
    session.clear()
    return RedirectResponse("/", 303)
