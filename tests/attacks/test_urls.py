"""URLs: what would be misread is refused, and what weakens TLS is known to whoever runs it."""

import warnings

import pytest

from asgi_redis_session import SessionStore

from ..support.internals import forget_warnings
from .conftest import Cases

pytestmark = pytest.mark.anywhere

REFUSED = [
    "redis://localhost/-1",
    "redis://localhost/65536",
    "redis://localhost/99999999999999999999",
    "redis://localhost/0/1",
    "redis://localhost/٣",
    "redis://localhost?db=-1",
    "redis://localhost?db=99999999",
    "redis://localhost/1?db=2",
    "redis://localhost?db=",
    "redis://localhost:0",
    "redis+cluster://one:0",
    "redis+cluster://one,two:0",
    "redis+sentinel://one:0/main",
    "redis+sentinel://one/main/99999999",
    "redis+cluster://one?db=1",
    "redis://one,two",
    "redis://one:6379,two:6379/0",
    "redis://local host",
    " redis://localhost",
    "redis://localhost ",
    "redis://localhost\n",
    "redis://local\thost",
    "redis://localhost/ 1",
    "redis://localhost?client_name=a%20b",
    "redis://localhost?client_name=%C3%BC",
    "redis://localhost?client_name=a%0Ab",
    "redis://localhost?client_name=",
    "redis://localhost?protocol=4",
    "redis://localhost?protocol=two",
    "redis://localhost?protocol=2&protocol=3",
    "redis://localhost?protocol",
    "redis://localhost#1",
    "redis://localhost/0#",
    "unix://localhost/run/redis.sock",
    "unix://run/redis.sock",
    "unix:///run/redis.sock?db=-1",
    "redis+sentinel://one/main?is_master=false",
    "redis://localhost?is_master=false",
    "redis://localhost?encoding=latin-1",
    "redis://localhost?encoding_errors=ignore",
    "rediss://localhost?ssl_cert_reqs=nothing",
    "rediss://localhost?ssl_check_hostname=maybe",
    "rediss://localhost?ssl_ca_certs=",
    "redis://localhost?ssl_ca_certs=/ca.crt",
]

ACCEPTED = [
    "redis://localhost",
    "redis://localhost/",
    "redis://localhost/15",
    "redis://localhost/65535",
    "redis://localhost?db=3",
    "redis://user:p%20w@localhost:6380/1?protocol=2&client_name=app",
    "redis://:pass@[::1]:6379/0",
    "unix:///run/redis.sock",
    "unix:///run/redis.sock?db=3",
    "unix://user:pw@/run/redis.sock",
    "rediss://localhost/0?ssl_min_version=771&socket_keepalive=true&socket_connect_timeout=1",
    "redis+cluster://one,two:7000",
    "redis+cluster://one/0",
    "redis+sentinel://one,two/main/15",
]

UNUSED = [
    "redis://localhost?socket_timeout=5",
    "redis://localhost?decode_responses=true",
    "redis://localhost?max_connections=50",
    "redis://localhost?health_check_interval=30",
    "redis://localhost?retry_on_timeout=true",
    "redis+sentinel://one/main?socket_timeout=5",
    "redis+cluster://one?socket_timeout=5",
]

INSECURE = [
    "rediss://localhost?ssl_cert_reqs=none",
    "rediss://localhost?ssl_check_hostname=false",
    "rediss+cluster://localhost?ssl_cert_reqs=none",
    "rediss+sentinel://localhost/main?ssl_check_hostname=no",
]


def test_a_url_that_would_be_misread_is_refused(cases: Cases) -> None:
    """Also with a password in it, which the sentence never shows."""
    for url in REFUSED:
        for password in ("", "hunter2"):
            given = url.replace("://", f"://:{password}@", 1) if password else url
            with pytest.raises(ValueError, match="from_url") as refusal:
                SessionStore.from_url(given)
            assert "hunter2" not in str(refusal.value)
            cases()
    for url in ACCEPTED:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            SessionStore.from_url(url)


def test_an_option_without_effect_is_warned_about(cases: Cases) -> None:
    """It worked so far; the sentence names it, and says what comes."""
    for url in UNUSED:
        with pytest.warns(FutureWarning, match=url.partition("?")[2].partition("=")[0]):
            SessionStore.from_url(url)
        cases()


async def test_tls_that_checks_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, cases: Cases
) -> None:
    """One warning per process, and a problem for the doctor, unless the store says so itself."""
    for url in INSECURE:
        forget_warnings(monkeypatch)
        with pytest.warns(UserWarning, match="not checked"):
            store = SessionStore.from_url(url, timeout=0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            SessionStore.from_url(url)
        for known, level in ((False, "problem"), (True, "ok")):
            store = SessionStore.from_url(url, timeout=0.01, insecure_tls=known)
            (finding,) = [f for f in (await store.check()).findings if f.name == "tls"]
            assert finding.level == level
            assert "not checked" in finding.message
            await store.aclose()
        cases()
