"""The session cookie: what is written, what is accepted, and that its value never leaks."""

import logging
import random
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgi_redis_session import (
    CookiePolicy,
    Session,
    SessionError,
    SessionEvent,
    SessionMiddleware,
    SessionStore,
)
from asgi_redis_session.testing import SessionKit

from .conftest import PLAIN
from .page import Page
from .support.internals import (
    cookie_change,
    failure_of,
    handle_of,
    load_scripts,
    open_session,
    start_response,
)

ID = "A" * 40 + "_-9"
WEEK_MS = 7 * 24 * 3_600 * 1_000


# --- What is written ---

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
    ({"name": "s", "domain": "a." * 600 + "com"}, "1024"),
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
        "path='/', domain=None, partitioned=False, max_age='absolute')"
    )


def test_the_development_policy_warns_where_it_is_called() -> None:
    """`for_development` works over plain HTTP and says so, pointing at the caller's line."""
    with pytest.warns(UserWarning, match="HTTPS in production") as caught:
        policy = CookiePolicy.for_development()
    assert policy == PLAIN
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CookiePolicy()


# --- What is accepted: a table of attacks; the number says which kind each row belongs to ---

Headers = list[tuple[bytes, bytes]]


def cookie(*values: bytes) -> Headers:
    return [(b"cookie", value) for value in values]


#: Each makes the request's headers from a real session's id; none of them is a session's cookie.
MALFORMED: dict[str, Callable[[bytes], Headers]] = {
    "1 no header": lambda i: [],
    "1 empty header": lambda i: cookie(b""),
    "1 semicolons": lambda i: cookie(b";;;"),
    "1 equals sign": lambda i: cookie(b"="),
    "1 empty name": lambda i: cookie(b"; =x;"),
    "2 empty value": lambda i: cookie(b"session="),
    "2 one character": lambda i: cookie(b"session=A"),
    "2 42 characters": lambda i: cookie(b"session=" + i[:-1]),
    "2 44 characters": lambda i: cookie(b"session=" + i + b"A"),
    "2 10000 characters": lambda i: cookie(b"session=" + i + b"A" * 10_000),
    "2 64 KiB": lambda i: cookie(b"session=" + b"A" * 65_536),
    "3 plus": lambda i: cookie(b"session=+" + i[1:]),
    "3 slash": lambda i: cookie(b"session=" + i[:-1] + b"/"),
    "3 padding": lambda i: cookie(b"session=" + i[:-1] + b"="),
    "3 dot": lambda i: cookie(b"session=." + i[1:]),
    "3 tilde": lambda i: cookie(b"session=~" + i[1:]),
    "3 blank inside": lambda i: cookie(b"session=" + i[:20] + b" " + i[21:]),
    "4 quoted": lambda i: cookie(b'session="' + i + b'"'),
    "4 escaped quotes": lambda i: cookie(b'session=\\"' + i + b'\\"'),
    "4 octal escapes": lambda i: cookie(b'session="\\%03o' % i[0] + i[1:] + b'"'),
    "4 one quote": lambda i: cookie(b'session="' + i),
    "4 single quotes": lambda i: cookie(b"session='" + i + b"'"),
    "5 50 KB of backslashes": lambda i: cookie(b'session="' + b"\\" * 50_000 + b'"'),
    "5 50 KB of escaped quotes": lambda i: cookie(b'session="' + b'\\"' * 25_000 + b'"'),
    "6 percent-encoded": lambda i: cookie(b"session=%%%02X" % i[0] + i[1:]),
    "6 trailing padding": lambda i: cookie(b"session=" + i + b"="),
    "8 high byte": lambda i: cookie(b"session=\x80" + i[1:]),
    "8 lone 0xFF": lambda i: cookie(b"session=" + i[:-1] + b"\xff"),
    "8 only 0xFF": lambda i: cookie(b"\xff" * 43),
    "8 UTF-16": lambda i: cookie(b"session=" + i.decode().encode("utf-16")),
    "8 UTF-16 name": lambda i: cookie("session=".encode("utf-16-le") + i),
    "8 byte order mark": lambda i: cookie(b"session=\xef\xbb\xbf" + i),
    "8 invalid UTF-8 before": lambda i: cookie(b"\xc3session=" + i),
    "9 NUL": lambda i: cookie(b"session=" + i + b"\x00"),
    "9 NUL inside": lambda i: cookie(b"session=" + i[:20] + b"\x00" + i[21:]),
    "9 TAB inside": lambda i: cookie(b"session=" + i[:20] + b"\t" + i[21:]),
    "9 CR": lambda i: cookie(b"session=" + i + b"\r"),
    "9 LF": lambda i: cookie(b"session=" + i + b"\n"),
    "9 CRLF and a header": lambda i: cookie(b"session=" + i + b"\r\nSet-Cookie: a=b"),
    "9 LF before": lambda i: cookie(b"session=\n" + i),
    "9 LF before the name": lambda i: cookie(b"a=b;\nsession=" + i),
    "9 new line with a name": lambda i: cookie(b"a=b\nsession=" + i),
    "9 DEL": lambda i: cookie(b"session=" + i[:-1] + b"\x7f"),
    "9 ESC": lambda i: cookie(b"session=\x1b[31m" + i),
    "10 full-width digits": lambda i: cookie(b"session=" + "\uff11".encode() + i[3:]),
    "10 U+2000 before the name": lambda i: cookie("\u2000".encode() + b"session=" + i),
    "10 U+2000 before the value": lambda i: cookie(b"session=" + "\u2000".encode() + i),
    "10 NBSP before the name": lambda i: cookie(b"\xa0session=" + i),
    "10 NBSP after the value": lambda i: cookie(b"session=" + i + b"\xa0"),
    "10 0x85 before the name": lambda i: cookie(b"\x85session=" + i),
    "10 0x85 after the value": lambda i: cookie(b"session=" + i + b"\x85"),
    "10 FS before the name": lambda i: cookie(b"\x1csession=" + i),
    "10 GS after the name": lambda i: cookie(b"session\x1d=" + i),
    "10 RS before the value": lambda i: cookie(b"session=\x1e" + i),
    "10 US after the value": lambda i: cookie(b"session=" + i + b"\x1f"),
    "10 VT and FF": lambda i: cookie(b"\x0bsession=" + i + b"\x0c"),
    "10 blank after the name": lambda i: cookie(b"session =" + i),
    "11 nameless": lambda i: cookie(b"=session=" + i),
    "11 nameless after another": lambda i: cookie(b"a=b; =session=" + i),
    "11 no equals sign": lambda i: cookie(b"session"),
    "11 id without a name": cookie,
    "11 name and id apart": lambda i: cookie(b"session; " + i),
    "12 comma before": lambda i: cookie(b"a=b, session=" + i),
    "12 comma after": lambda i: cookie(b"session=" + i + b", a=b"),
    "12 only legacy attributes": lambda i: cookie(b"$Version=1; $Path=/"),
    "12 legacy name": lambda i: cookie(b"$session=" + i),
    "13 upper case": lambda i: cookie(b"SESSION=" + i),
    "13 capital": lambda i: cookie(b"Session=" + i),
    "13 with a prefix": lambda i: cookie(b"__Host-session=" + i),
    "13 longer in front": lambda i: cookie(b"xsession=" + i),
    "13 longer behind": lambda i: cookie(b"sessionx=" + i),
    "13 shorter": lambda i: cookie(b"sessio=" + i),
    "13 as a value": lambda i: cookie(b"a=session=" + i),
    "13 twice the name": lambda i: cookie(b"session=session=" + i),
    "17 cut by the value before": lambda i: cookie(b"a=" + b"x" * 32_768 + b"session=" + i),
    "18 Authorization": lambda i: [(b"authorization", b"Bearer " + i)],
    "18 X-Session": lambda i: [(b"x-session", i), (b"session", i)],
    "18 Set-Cookie": lambda i: [(b"set-cookie", b"session=" + i)],
    "18 Cookie2": lambda i: [(b"cookie2", b"session=" + i)],
}

_three_thousand = b"; ".join(b"c%d=%d" % (n, n) for n in range(3_000))

#: Each is the session's cookie, whatever stands around it.
WELL_FORMED: dict[str, Callable[[bytes], Headers]] = {
    "alone": lambda i: cookie(b"session=" + i),
    "8 others are not UTF-8": lambda i: cookie(b"\xff=\xfe; session=" + i + b"; a=\xc3"),
    "10 blanks and tabs": lambda i: cookie(b" \t session= \t" + i + b"\t  ; a=b"),
    "12 legacy attributes": lambda i: cookie(b"$Version=1; session=" + i + b"; $Path=/"),
    "13 other names": lambda i: cookie(b"Session=x; xsession=y; session=" + i + b"; SESSION=z"),
    "14 second header": lambda i: cookie(b"a=b", b"session=" + i),
    "14 first header": lambda i: cookie(b"session=" + i, b"a=b"),
    "14 with headers between": lambda i: [*cookie(b"a=b"), (b"x", b"y"), *cookie(b"session=" + i)],
    "15 twice": lambda i: cookie(b"session=" + i + b"; session=" + i),
    "15 twice, other blanks": lambda i: cookie(b"session=" + i + b";session=  " + i + b" "),
    "15 in two headers": lambda i: cookie(b"session=" + i, b"session=" + i),
    "17 after 3000 others": lambda i: cookie(_three_thousand + b"; session=" + i),
    "17 after 32 KB": lambda i: cookie(b"a=" + b"x" * 32_768 + b"; session=" + i),
    "17 after 3000 headers": lambda i: cookie(*[b"a=b"] * 3_000, b"session=" + i),
    "no blanks": lambda i: cookie(b"a=b;session=" + i + b";c=d"),
    "empty parts": lambda i: cookie(b";; ;session=" + i + b";;"),
    "quotes around a neighbour": lambda i: cookie(b'a="x; session=' + i + b'; b="'),
}

_OTHER = b"B" * 43

#: Two different cookies of the same name: nobody can tell which is the browser's own.
CONFLICTS: dict[str, Callable[[bytes], Headers]] = {
    "16 ours first": lambda i: cookie(b"session=" + i + b"; session=" + _OTHER),
    "16 ours last": lambda i: cookie(b"session=" + _OTHER + b"; session=" + i),
    "16 two headers": lambda i: cookie(b"session=" + i, b"session=" + _OTHER),
    "16 two headers, ours last": lambda i: cookie(b"session=" + _OTHER, b"session=" + i),
    "16 three": lambda i: cookie(b"session=" + i + b"; session=" + i + b"; session=" + _OTHER),
    "16 the other is malformed": lambda i: cookie(b"session=" + i + b"; session=x"),
    "16 the other is empty": lambda i: cookie(b"session=; session=" + i),
    "16 the other is quoted": lambda i: cookie(b'session="' + i + b'"; session=' + i),
    "16 both malformed": lambda i: cookie(b"session=x; session=y"),
}


@pytest.fixture
def session_options(prefix: str) -> dict[str, Any]:
    """`sessions` looks at what the `store` fixture writes."""
    return {"prefix": prefix}


@pytest.fixture
def kit(sessions: SessionKit, admin: redis.Redis) -> SessionKit:
    """The server knows every script, so that a first EVAL does not count."""
    load_scripts(admin)
    return sessions


@pytest.fixture
async def page(store: SessionStore) -> AsyncIterator[Page]:
    page = Page(store)
    async with page.client:
        yield page


def names_of(events: list[SessionEvent]) -> list[str]:
    return [event.name for event in events]


@pytest.mark.parametrize("row", MALFORMED)
async def test_a_malformed_cookie_costs_nothing(
    kit: SessionKit, store: SessionStore, page: Page, events: list[SessionEvent], row: str
) -> None:
    """Whatever is not exactly our cookie: an empty session, no command, no Set-Cookie, no event."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"].encode()
    with kit.count() as commands:
        response = await page(dict, MALFORMED[row](known))
        await store.drain()
    assert response.status_code == 200
    assert page.seen == {}
    assert commands.lines == []
    assert events == []
    assert "set-cookie" not in response.headers
    assert known not in b"".join(part for pair in response.headers.raw for part in pair)
    assert known not in response.content


async def test_an_id_anywhere_else_is_ignored(
    kit: SessionKit, store: SessionStore, page: Page
) -> None:
    """An id in the path, the query or the body is no cookie."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"]
    with kit.count() as commands:
        for url in (f"/{known}", f"/?session={known}", f"/?{known}", f"/;session={known}"):
            assert (await page(dict, url=url)).status_code == 200
            assert page.seen == {}
            assert (await page(dict, url=url, content=f"session={known}")).status_code == 200
            assert page.seen == {}
        await store.drain()
    assert commands.lines == []


@pytest.mark.parametrize("row", WELL_FORMED)
async def test_the_cookie_is_found_whatever_stands_around_it(
    kit: SessionKit, store: SessionStore, page: Page, events: list[SessionEvent], row: str
) -> None:
    """A well-formed cookie is found in all headers, at one command, and is not sent again."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"].encode()
    with kit.count() as commands:
        response = await page(dict, WELL_FORMED[row](known))
        await store.drain()
    assert response.status_code == 200
    assert page.seen == {"user": "ada"}
    assert commands.names == ["EVALSHA"]
    assert events == []
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("row", CONFLICTS)
async def test_two_different_cookies_are_a_conflict(
    kit: SessionKit, store: SessionStore, page: Page, events: list[SessionEvent], row: str
) -> None:
    """Neither of two different cookies is believed: no command, and one `conflict` event."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"].encode()
    with kit.count() as commands:
        response = await page(dict, CONFLICTS[row](known))
        await store.drain()
    assert response.status_code == 200
    assert page.seen == {}
    assert commands.lines == []
    assert events == [SessionEvent("conflict")]
    assert "set-cookie" not in response.headers


async def test_who_writes_during_a_conflict_gets_a_new_id(
    kit: SessionKit, page: Page, events: list[SessionEvent], admin: redis.Redis
) -> None:
    """The sessions of both cookies stay as they are; the browser is given a third."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"]
    (key,) = kit.keys()
    before = admin.hgetall(key)
    response = await page(
        lambda session: session.update(x=1), CONFLICTS["16 ours last"](known.encode())
    )
    assert response.cookies["session"] not in (known, _OTHER.decode())
    assert admin.hgetall(key) == before
    assert names_of(events) == ["conflict", "created"]


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda i: i[:-1] + _respelt(i[-1]), id="6 other spelling of the same bits"),
        pytest.param(str.swapcase, id="7 case flipped"),
        pytest.param(lambda i: "A" * 43, id="20 never issued"),
    ],
)
async def test_an_id_that_was_never_issued_is_anonymous(
    kit: SessionKit,
    store: SessionStore,
    page: Page,
    events: list[SessionEvent],
    alter: Callable[[str], str],
) -> None:
    """A well-formed id that Redis does not know: one command, nothing created, never adopted."""
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"]
    before = kit.keys()
    altered = alter(known)
    assert altered != known
    headers = cookie(b"session=" + altered.encode())
    with kit.count() as commands:
        response = await page(dict, headers)
        await store.drain()
    assert (response.status_code, page.seen) == (200, {})
    assert commands.names == ["EVALSHA"]
    assert "set-cookie" not in response.headers
    assert kit.keys() == before
    assert names_of(events) == ["unknown_id"]
    response = await page(lambda session: session.update(x=1), headers)
    assert response.cookies["session"] not in (known, altered)
    assert kit.read({"session": altered}, cookie=PLAIN) == {}
    assert kit.read({"session": known}, cookie=PLAIN) == {"user": "ada"}


def _respelt(last: str) -> str:
    """Another last character of a base64url text that decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) ^ 1]


async def test_what_redis_shows_is_no_cookie(
    kit: SessionKit, page: Page, events: list[SessionEvent]
) -> None:
    """The key and the handle of a session, read in Redis or in a log, open nothing."""
    kit.cookies({"user": "ada"}, cookie=PLAIN)
    (key,) = kit.keys()
    handle = key.rpartition(":")[2]
    for stolen in (handle, key, (handle + handle)[:43], handle.ljust(43, "A")):
        await page(dict, cookie(b"session=" + stolen.encode()))
        assert page.seen == {}


@pytest.mark.parametrize(
    "policy",
    [
        CookiePolicy(),
        CookiePolicy(name="a.b*c+$^|"),
        CookiePolicy(name="s", same_site="none", partitioned=True, domain="example.com"),
        CookiePolicy(name="__Secure-x", max_age="session", domain="app.example.com"),
        CookiePolicy(name="sid", secure=False, http_only=False, same_site="strict"),
    ],
    ids=lambda policy: policy.name,
)
async def test_browsers_send_back_what_each_policy_writes(
    store: SessionStore, policy: CookiePolicy
) -> None:
    """The cookie that a response sets is byte-exact and is found again in the next request."""
    page = Page(store, policy)
    async with page.client:
        response = await page(lambda session: session.update(user="ada"))
        (written,) = response.headers.get_list("set-cookie")
        session_id = written.removeprefix(f"{policy.name}=").partition(";")[0]
        assert len(session_id) == 43
        assert written.encode() == policy.render(session_id, WEEK_MS)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["vary"] == "Cookie"
        await page(dict)
        assert page.seen == {"user": "ada"}
        response = await page(lambda session: session.clear())
        assert response.headers.get_list("set-cookie") == [policy.render_deletion().decode()]
        assert not page.client.cookies


# --- A second parser, which is slow and simple ---


def naive_values(policy: CookiePolicy, headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    found = set()
    for header, line in headers:
        if header == b"cookie":
            for part in line.split(b";"):
                name, separator, value = part.lstrip(b" \t").partition(b"=")
                if separator and name == policy.name.encode():
                    found.add(value.strip(b" \t"))
    return found


POLICIES = [
    CookiePolicy(),
    PLAIN,
    CookiePolicy(name="s"),
    CookiePolicy(name="a.b*c+$^|", secure=False),
    CookiePolicy(name="$Version", secure=False),
]


def cookie_pieces(policy: CookiePolicy) -> list[bytes]:
    name = policy.name.encode()
    return [
        *[b"; " + name + b"="] * 6,
        *[
            name + b"=",
            name + b"=" + ID.encode(),
            name,
            b"x" + name + b"=",
            name + b"x=",
            name.swapcase() + b"=",
        ],
        *[
            b"; ",
            b"; ",
            b";",
            b";;",
            b"=",
            b" ",
            b"\t",
            b",",
            b'"',
            b"'",
            b"\\",
            b"$Path=/",
            b"%3D",
        ],
        *[ID.encode(), b"B" * 43, b"A" * 42, b"x", b"", b"a=b", b"\x00", b"\r\n", b"\n", b"\x1f"],
        *[b"\xff", b"\xa0", b"\x85", b"\xc3\xa9", "\u2000".encode(), "\uff11".encode()],
    ]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_random_cookie_headers_are_read_as_the_simple_parser_reads_them(
    policy: CookiePolicy,
) -> None:
    """On 4,000 random requests for each policy, both parsers find the same values."""
    draw = random.Random(policy.name)
    pieces = cookie_pieces(policy)
    found = 0
    for _ in range(4_000):
        headers = [
            (
                draw.choice([b"cookie", b"cookie", b"cookie", b"set-cookie", b"cookies"]),
                b"".join(draw.choices(pieces, k=draw.randrange(14))),
            )
            for _ in range(draw.choice([1, 1, 1, 2, 3]))
        ]
        values = policy.values(headers)
        assert values == naive_values(policy, headers)
        found += bool(values)
    assert found > 1_000


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from(POLICIES))
def test_arbitrary_bytes_are_read_as_the_simple_parser_reads_them(
    lines: list[bytes], policy: CookiePolicy
) -> None:
    """No bytes make the parser fail, nor find what is not there."""
    lines.append(policy.name.encode() + b"=" + b"".join(lines))
    headers = cookie(*lines)
    assert policy.values(headers) == naive_values(policy, headers)


SIZE = 65_536
WORST: dict[str, bytes] = {
    "semicolons": b";" * SIZE,
    "blanks": b" " * SIZE,
    "tabs": b"\t" * SIZE,
    "semicolons and blanks": b"; " * (SIZE // 2),
    "blanks and a wrong name": b";" + b" " * SIZE + b"sessionx=",
    "many runs of blanks": (b";" + b" " * 255) * (SIZE // 256),
    "blanks around the value": b"session=" + b" " * SIZE + ID.encode() + b"\t" * SIZE,
    "blanks only": b"session=" + b" \t" * (SIZE // 2),
    "equals signs": b"=" * SIZE,
    "backslashes in quotes": b'session="' + b"\\" * SIZE + b'"',
    "octal escapes": b'session="' + b"\\101" * (SIZE // 4) + b'"',
    "quotes": b"session=" + b'"' * SIZE,
    "the name over and over": b"session=" * (SIZE // 8),
    "the beginning of the name": b"sessio" * (SIZE // 6),
    "the name without a value": b"session;" * (SIZE // 8),
    "our cookie over and over": (b"session=" + ID.encode() + b";") * (SIZE // 52),
    "different cookies of ours": b";".join(b"session=%d" % n for n in range(SIZE // 13)),
    "NUL": b"\x00" * SIZE,
    "0xFF": b"\xff" * SIZE,
    "new lines": b"\n" * SIZE,
    "a long value": b"session=" + b"A" * SIZE,
    "commas": b"a=b," * (SIZE // 4),
}


@pytest.mark.parametrize("kind", WORST)
def test_64_kib_of_the_worst_is_read_correctly(kind: str) -> None:
    """The largest and most repetitive headers give the right result, as the simple parser does."""
    headers = cookie(WORST[kind])
    assert PLAIN.values(headers) == naive_values(PLAIN, headers)


async def test_64_kib_of_the_worst_is_survived_by_a_request(
    kit: SessionKit, store: SessionStore, page: Page
) -> None:
    """Through the real middleware, only those that hold one well-formed id reach Redis."""
    for kind, line in WORST.items():
        with kit.count() as commands:
            response = await page(dict, cookie(line))
            await store.drain()
        assert (kind, response.status_code, page.seen) == (kind, 200, {})
        reaches = kind in ("blanks around the value", "our cookie over and over")
        assert (kind, len(commands)) == (kind, int(reaches))


async def test_a_scope_without_headers_is_anonymous(store: SessionStore) -> None:
    """ASGI lets a server leave `headers` out; the session is then a new one."""
    seen: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["session"])

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        raise AssertionError

    middleware = SessionMiddleware(app, store=store, autoload=True)
    await middleware({"type": "http"}, receive, send)
    assert dict(seen[0]) == {}


# --- The id never leaks ---


async def nothing(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    """Leave the session as it is."""


async def write(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = [1]
    await session.save()


async def write_rubbish(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = []
    session["n"].append(object())
    await session.save()


async def assign_rubbish(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["bad"] = {1: 2}


async def renew(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.renew()
    await session.save()


async def fetch(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.fetch("n", "x")


async def increment(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.increment("counter")


async def increment_text(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["t"] = "text"
    await session.save()
    await session.increment("t")


async def clear(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.clear()
    await session.save()


async def logout(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.logout()


async def use_unloaded(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    session["n"]


async def seal(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    start_response(session)
    session.renew()
    session["n"] = 2


async def prolong(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session.set_lifetime(absolute=None)


async def revoke(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    session["n"] = 1
    await store.revoke(session.handle or "")
    await session.save()


async def spoil(session: Session, store: SessionStore, admin: redis.Redis) -> None:
    await session.load()
    if session.handle:
        admin.hset(f"{store.prefix}:{session.handle}", "bad", b"[1,2")
    await session.reload()


Step = Callable[[Session, SessionStore, redis.Redis], Any]
STEPS: list[Step] = [
    *(
        nothing,
        write,
        write_rubbish,
        assign_rubbish,
        renew,
        fetch,
        increment,
        increment_text,
        clear,
    ),
    *(logout, use_unloaded, seal, prolong, revoke, spoil),
]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
async def test_the_id_is_in_no_log_repr_event_or_error(
    store: SessionStore,
    admin: redis.Redis,
    events: list[SessionEvent],
    caplog: pytest.LogCaptureFixture,
    steps: list[Step],
) -> None:
    """Whatever a request does, its secret ids appear in nothing that people read."""
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    events.clear()
    said: list[str] = []
    secrets = {ID}
    session_id: str | None = ID
    for step in steps:
        session = open_session(store, session_id)
        try:
            await step(session, store, admin)
        except SessionError as error:
            said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        said += [repr(session), str(session), f"{session}", repr(failure_of(session))]
        if session.loaded:
            said += [repr(dict(session)), repr(session.handle), repr(session.items())]
        change = cookie_change(session)
        if change is not None:
            session_id = change.session_id
        if session_id is not None:
            secrets.add(session_id)
            said.append(repr(await store.get(handle_of(store, session_id))))
    said += [repr(events), repr(store), repr(store.stats), caplog.text]
    said += [repr(record.__dict__) for record in caplog.records]
    for text in said:
        assert not any(secret in text for secret in secrets)


async def test_the_id_is_in_nothing_that_a_failing_request_logs(
    admin: redis.Redis, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests that end in 500, in a conflict or as corrupt log what happened, without the id."""
    caplog.set_level(logging.DEBUG)
    page = Page(store)

    def spoil_value(session: Session) -> None:
        session["cart"].append({1})

    def fail(session: Session) -> None:
        raise RuntimeError(repr(session))

    async with page.client:
        response = await page(lambda session: session.update(cart=[]))
        session_id = response.cookies["session"]
        assert (await page(spoil_value)).status_code == 500
        assert (await page(fail)).status_code == 500
        ours = b"session=" + session_id.encode()
        await page(dict, cookie(ours + b"x; " + ours))
        handle = handle_of(store, session_id)
        admin.hset(f"{store.prefix}:{handle}", "cart", "[1")
        assert (await page(dict)).status_code == 200
        assert page.seen == {}
    assert caplog.records
    assert session_id not in caplog.text


async def test_the_id_is_in_no_error_while_redis_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An outage is reported with Redis' address, but without ids, values or the password."""
    caplog.set_level(logging.DEBUG)
    events: list[SessionEvent] = []
    url = "redis://ada:hushhush@127.0.0.1:1/0"
    async with SessionStore.from_url(url, on_event=events.append) as store:
        session = open_session(store, ID)
        said: list[str] = []
        for verb in (session.load, session.logout, session.still_valid, session.fetch):
            with pytest.raises(SessionError) as caught:
                await verb()
            said += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
        said += [repr(session), repr(failure_of(session)), repr(events), caplog.text, repr(store)]
    assert "127.0.0.1:1" in caplog.text
    assert set(names_of(events)) == {"unavailable"}
    for text in said:
        assert ID not in text
        assert "hushhush" not in text


async def test_the_id_is_nowhere_in_redis(kit: SessionKit, page: Page, admin: redis.Redis) -> None:
    """Neither keys, nor fields, nor the commands that MONITOR shows contain the id."""
    with kit.count() as commands:
        response = await page(lambda session: session.update(user="ada"))
        session_id = response.cookies["session"]
        await page(lambda session: session.renew())
        renewed = page.client.cookies["session"]
        await page(dict)
    assert renewed != session_id
    assert commands.lines
    keys = kit.keys()
    seen = repr([commands.lines, keys, [admin.hgetall(key) for key in keys]])
    assert session_id not in seen
    assert renewed not in seen
