"""
WTForms: how does a form carry a CSRF token that belongs to the session?

    pip install wtforms python-multipart
    uvicorn examples.recipes.wtforms_csrf:app

WTForms keeps a random text in the session, and signs it together with a time. $REDIS_URL names
your Redis.
"""

import os
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from wtforms import Form, StringField
from wtforms.csrf.session import SessionCSRF

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session

SECRET = os.environ.get("SECRET", "signs the tokens of forms").encode()


class Address(Form):
    class Meta:
        csrf = True
        csrf_class = SessionCSRF
        csrf_secret = SECRET
        csrf_time_limit = timedelta(hours=1)

    city = StringField("City")


async def edit(request: Request) -> HTMLResponse:
    session = await load_session(request)
    submitted: Any = await request.form() if request.method == "POST" else None
    form = Address(submitted, meta={"csrf_context": session})
    if submitted is not None and form.validate():
        session["city"] = form.city.data
        return HTMLResponse("Saved.")
    errors = "".join(f"<p>{error}" for field in form.errors.values() for error in field)
    fields = f"{form['csrf_token']} {form.city.label} {form.city}"
    page = f"{errors}<form method=post>{fields}<button>Save</button></form>"
    return HTMLResponse(page, 200 if submitted is None else 400)


app = Starlette(
    routes=[Route("/", edit, methods=["GET", "POST"])],
    middleware=[
        Middleware(
            SessionMiddleware,
            store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
            cookie=CookiePolicy.for_development(),
        )
    ],
)
