"""Values and cookies at the very edge of what is accepted."""

import string
from typing import Any

import pytest

from asgi_redis_session import CookiePolicy, SessionValueError
from asgi_redis_session.cookie import CookieChange, SentCookies
from asgi_redis_session.engine.codec import decode, encode

pytestmark = pytest.mark.anywhere


@pytest.mark.parametrize("first", sorted(set(string.printable) - set("'\"{[-0123456789")))
def test_plain_text_is_stored_as_it_is(first: str) -> None:
    """`redis-cli HGETALL` shows text without a mark, unless it looks like another type."""
    assert encode(first + "ext") == f"{first}ext".encode()


def test_the_longest_integer_is_accepted() -> None:
    """14,280 bits: every one of these can be turned into text and back by any CPython."""
    longest = 2**14_280 - 1
    for value in (longest, -longest):
        assert decode(encode(value)) == value
        with pytest.raises(SessionValueError, match=r"4,300 digits"):
            encode(value * 2)


@pytest.mark.parametrize("value", [b"", b"short", b"x" * 44, b"\xff" * 43])
def test_one_malformed_cookie_is_no_conflict(value: bytes) -> None:
    """A conflict is two cookies; a single one without the form of an id is ignored."""
    found = CookiePolicy(name="session").read([(b"cookie", b"session=" + value)])
    assert found == SentCookies()


def test_two_malformed_cookies_are_no_conflict() -> None:
    """What has not the form of an id is left over from another app, and counts for nothing."""
    found = CookiePolicy(name="session").read([(b"cookie", b"session=a; session=b")])
    assert found == SentCookies()


@pytest.mark.parametrize("other", [b"", b"null", b"deleted", b"x" * 42, b"eyJhIjogMX0=.aBc.dEf"])
def test_a_malformed_cookie_beside_an_id_is_no_conflict(other: bytes) -> None:
    """The id counts, in whichever order the browser sends them."""
    for first, second in ((b"i" * 43, other), (other, b"i" * 43)):
        header = b"session=%b; session=%b" % (first, second)
        assert CookiePolicy(name="session").read([(b"cookie", header)]) == SentCookies("i" * 43)


def test_a_session_without_a_deadline_gets_the_longest_cookie() -> None:
    """400 days, which is the limit of browsers."""
    (header,) = CookiePolicy(name="session").headers_for(CookieChange("i" * 43))
    assert b"; Max-Age=34560000; " in header


def test_a_path_of_1024_bytes_is_accepted() -> None:
    """Browsers ignore an attribute only beyond that (RFC 6265bis, section 5.6)."""
    path = "/" + "p" * 1023
    CookiePolicy(name="session", path=path)
    with pytest.raises(ValueError, match="over 1024 bytes"):
        CookiePolicy(name="session", path=path + "p")


def test_a_domain_of_253_bytes_is_accepted() -> None:
    """The longest host name that there is (RFC 1035, section 2.3.4), of labels of 63."""
    domain = ".".join(["d" * 63] * 3 + ["d" * 61])
    CookiePolicy(name="session", domain=domain)
    for wrong in (domain + "d", "d" * 64 + ".com"):
        with pytest.raises(ValueError, match="domain="):
            CookiePolicy(name="session", domain=wrong)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "__Secure-session"}, "name='__Secure-session'"),
        ({"name": "session", "same_site": "none"}, "same_site='none'"),
        ({"name": "session", "partitioned": True}, "partitioned=True"),
    ],
)
def test_a_policy_that_needs_secure_names_the_reason(options: dict[str, Any], named: str) -> None:
    """The error says which argument browsers would ignore the cookie for."""
    with pytest.raises(ValueError, match=r"^CookiePolicy") as error:
        CookiePolicy(secure=False, **options)
    assert str(error.value) == f"CookiePolicy({named}): browsers ignore it without secure=True."
