"""CookiePolicy: what it writes, and what it refuses."""

import warnings
from typing import Any

import pytest

from asgi_redis_session import CookiePolicy
from asgi_redis_session.pages import see

from ..support.sessions import PLAIN

ID = "A" * 40 + "_-9"


WEEK_MS = 7 * 24 * 3_600 * 1_000


#: Options, the attributes with a lifetime of a week, and those that both headers share.
RENDERED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "Max-Age=604800; ", "Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"max_age": "session"}, "", "Path=/; Secure; HttpOnly; SameSite=Lax"),
    (
        {"name": "session", "secure": False},
        "Max-Age=604800; ",
        "Path=/; HttpOnly; SameSite=Lax",
    ),
    (
        {"name": "sid", "same_site": "strict", "path": "/shop", "domain": "example.com"},
        "Max-Age=604800; ",
        "Path=/shop; Domain=example.com; Secure; HttpOnly; SameSite=Strict",
    ),
    (
        {"same_site": "none", "partitioned": True},
        "Max-Age=604800; ",
        "Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
    ),
    (
        {"name": "__Secure-s", "domain": ".example.com", "http_only": False, "max_age": "session"},
        "",
        "Path=/; Domain=.example.com; Secure; SameSite=Lax",
    ),
    (
        {"name": "!#$%&'*+-.^_`|~", "path": "/a-b_c.d~e/%20"},
        "Max-Age=604800; ",
        "Path=/a-b_c.d~e/%20; Secure; HttpOnly; SameSite=Lax",
    ),
]


@pytest.mark.parametrize(("options", "max_age", "attributes"), RENDERED)
def test_set_cookie_is_exactly_this(options: dict[str, Any], max_age: str, attributes: str) -> None:
    """Each policy writes and deletes its cookie byte for byte as shown here."""
    policy = CookiePolicy(**options)
    name = options.get("name", "__Host-session")
    past = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; "
    assert policy.render(ID, WEEK_MS) == f"{name}={ID}; {max_age}{attributes}".encode()
    assert policy.render_deletion() == f"{name}=deleted; {past}{attributes}".encode()


@pytest.mark.parametrize(
    ("max_age_ms", "seconds"),
    [
        (None, 34_560_000),
        (34_560_000_000, 34_560_000),
        (34_560_001_000, 34_560_000),
        (10**15, 34_560_000),
        (1_000, 1),
        (59_999, 59),
        (0, 0),
        (-5_000, 0),
    ],
)
def test_max_age_is_whole_seconds_up_to_400_days(max_age_ms: int | None, seconds: int) -> None:
    """The cookie never outlives the session, and never asks for more than browsers grant."""
    assert f"; Max-Age={seconds}; ".encode() in CookiePolicy().render(ID, max_age_ms)


NONSENSE: list[tuple[dict[str, Any], str]] = [
    *[
        ({"name": name, "secure": True}, "name=")
        for name in ["", " ", "a b", "a=b", "a;b", "a,b", "a\r\nSet-Cookie: x=y", "a\x00", "a\x7f"]
    ],
    *[
        ({"name": name}, "name=")
        for name in ["schön", "a\tb", '"a"', "a/b", "a@b", "(a)", "a" * 256, "a\n", None, 5, b"a"]
    ],
    *[
        ({"name": "s", "path": path}, "path=")
        for path in ["", "shop", " /", "/a b", "/a;b", "/a\r\nX: y", "/\x00", "/\x7f", "/ä", "/a\n"]
    ],
    *[({"name": "s", "path": path}, "path=") for path in [None, 5, b"/"]],
    *[
        ({"name": "s", "domain": domain}, "domain=")
        for domain in [
            "",
            ".",
            "a..b",
            "a b",
            "a;b",
            "a.com\r\nX: y",
            "a.com/",
            "a.com:80",
            "a.com\n",
        ]
    ],
    *[
        ({"name": "s", "domain": domain}, "domain=")
        for domain in ["*.a.com", "bücher.de", "a_b.com", "https://a.com", "a.com.", 5, b"a.com"]
    ],
    ({"name": "s", "path": "/" + "a" * 1_024}, "1024"),
    *[
        ({"name": "s", "domain": domain}, "domain=")
        for domain in [
            "localhost",
            "com",
            ".com",
            "127.0.0.1",
            ".127.0.0.1",
            "1.2",
            "::1",
            "-a.com",
            "a-.com",
            "a.-b.com",
            "a" * 64 + ".com",
            "a." * 130 + "com",
        ]
    ],
    *[
        ({"same_site": value}, "same_site=")
        for value in ["Lax", "LAX", "", "no", None, True, "lax; Secure", ["lax"]]
    ],
    *[
        ({"max_age": value}, "max_age=")
        for value in [3600, None, "", "Session", "3600", 0, True, "absolute; Secure"]
    ],
    ({"secure": False}, "__Host-"),
    ({"path": "/shop"}, "__Host-"),
    ({"domain": "example.com"}, "__Host-"),
    ({"name": "__host-session", "secure": False}, "__Host-"),
    ({"name": "__HOST-session", "domain": "example.com"}, "__Host-"),
    ({"name": "__Secure-session", "secure": False}, "secure=True"),
    ({"name": "__secure-session", "secure": False}, "secure=True"),
    ({"name": "s", "secure": False, "same_site": "none"}, "secure=True"),
    ({"name": "s", "secure": False, "partitioned": True}, "secure=True"),
    ({"name": "__Http-s", "http_only": False}, "http_only=True"),
    ({"name": "__Host-Http-s", "http_only": False}, "http_only=True"),
    ({"name": "__http-s", "secure": False}, "secure=True"),
]


@pytest.mark.parametrize(("options", "mentioned"), NONSENSE, ids=lambda part: ascii(part)[:50])
def test_nonsense_is_refused(options: dict[str, Any], mentioned: str) -> None:
    """What browsers would ignore, or what would break the header, is refused at construction."""
    with pytest.raises((ValueError, TypeError)) as caught:
        CookiePolicy(**options)
    message = str(caught.value)
    assert message.startswith("CookiePolicy")
    assert mentioned in message
    assert message.endswith(".")


@pytest.mark.parametrize("option", ["secure", "http_only", "partitioned"])
@pytest.mark.parametrize("value", [None, "no", "false", "Lax"])
def test_flags_are_booleans(option: str, value: object) -> None:
    """A flag that is not True or False is refused: `secure="no"` would mean the opposite."""
    options: dict[str, Any] = {"name": "s", option: value}
    with pytest.raises((ValueError, TypeError), match=option):
        CookiePolicy(**options)


def test_a_policy_can_not_be_changed() -> None:
    """A policy is frozen, so the bytes that it made of its attributes stay right."""
    policy = CookiePolicy()
    with pytest.raises(AttributeError):
        policy.secure = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        CookiePolicy("name")  # type: ignore[call-arg]


def test_policies_compare_and_print_by_what_they_say() -> None:
    """Two equal policies are equal and hash alike, and `repr` shows the options only."""
    assert CookiePolicy() == CookiePolicy()
    assert hash(CookiePolicy()) == hash(CookiePolicy())
    assert CookiePolicy() != CookiePolicy(same_site="strict")
    assert repr(CookiePolicy()) == (
        "CookiePolicy(name='__Host-session', secure=True, http_only=True, same_site='lax', "
        "path='/', domain=None, partitioned=False, max_age='absolute', replaces=(), "
        "replaces_until=None)"
    )


def test_the_development_policy_works_over_http() -> None:
    """No prefix and no `Secure`, and a warning that says what that means."""
    with pytest.warns(UserWarning, match="over plain HTTP") as caught:
        assert CookiePolicy.for_development() == PLAIN
    assert str(caught[0].message) == (
        "CookiePolicy.for_development() sends the session cookie over plain HTTP. "
        f"Use CookiePolicy() behind HTTPS in production. {see('cookie_over_http')}"
    )


def test_the_development_policy_warns_where_it_is_called() -> None:
    """`for_development` works over plain HTTP and says so, pointing at the caller's line."""
    with pytest.warns(UserWarning, match="HTTPS in production") as caught:
        CookiePolicy.for_development()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CookiePolicy()
