"""
Fixtures for the tests of your app, on a real Redis.

In your `conftest.py`:

    pytest_plugins = ["asgi_redis_session.testing"]

Then `sessions` gives each test a store with a private prefix, ready-made session cookies, a look
into what was stored, and a trace of the Redis commands that a block of code used.
"""

from .fixtures import session_options, session_redis_url, sessions
from .kit import CommandCount, SessionKit

__all__ = ["CommandCount", "SessionKit", "session_options", "session_redis_url", "sessions"]
