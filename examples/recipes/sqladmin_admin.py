"""
sqladmin: how does the admin share the app's login, instead of having a cookie of its own?

    pip install sqladmin python-multipart
    uvicorn examples.recipes.sqladmin_admin:app

Open http://127.0.0.1:8000/admin; the password is "hush". `AuthenticationBackend` brings Starlette's
SessionMiddleware, which this one leaves out. $REDIS_URL names your Redis.
"""

import os

from sqladmin import Admin, ModelView
from sqladmin.authentication import AuthenticationBackend
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request

from asgi_redis_session import CookiePolicy, SessionMiddleware
from asgi_redis_session.starlette import load_session


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"
    sku: Mapped[str] = mapped_column(primary_key=True)


class ProductView(ModelView, model=Product):
    column_list = (Product.sku,)
    form_include_pk = True


class SharedLogin(AuthenticationBackend):
    def __init__(self) -> None:
        self.middlewares = []  # the app's SessionMiddleware is enough

    async def login(self, request: Request) -> bool:
        form = await request.form()
        if form.get("password") != "hush":
            return False
        session = await load_session(request)
        await session.login(str(form["username"]))
        session["is_admin"] = True
        return True

    async def logout(self, request: Request) -> bool:
        session = await load_session(request)
        await session.logout()
        return True

    async def authenticate(self, request: Request) -> bool:
        session = await load_session(request)
        return session.user_id is not None and session.get("is_admin") is True

    async def get_user_id(self, request: Request) -> str | None:
        session = await load_session(request)
        return session.user_id


any_thread = {"check_same_thread": False}
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=any_thread)
Base.metadata.create_all(engine)
app = Starlette()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    cookie=CookiePolicy.for_development(),
)
admin = Admin(app, engine, authentication_backend=SharedLogin())
admin.add_view(ProductView)
