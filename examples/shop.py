"""
The demo shop as an app: how do several instances of an app share their sessions?

    uvicorn examples.shop:app

They share a Redis, and a prefix: any instance serves any user. `make demo` starts two of them. The
shop is in `asgi_redis_session/demo/`. $REDIS_URL names your Redis, and keys begin with
$SESSION_PREFIX. With SHOP_HTTPS=1, browsers send the cookie over HTTPS only.
"""

import os

from asgi_redis_session import CookiePolicy
from asgi_redis_session.demo.app import make_app

app = make_app(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    prefix=os.environ.get("SESSION_PREFIX", "shop"),
    cookie=CookiePolicy() if os.environ.get("SHOP_HTTPS") == "1" else None,
)
