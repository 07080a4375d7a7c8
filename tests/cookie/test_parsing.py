"""Cookies that arrive: malformed, doubled, foreign, and never issued."""

import random
import string
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_redis_session import CookiePolicy, Session, SessionEvent, SessionMiddleware, SessionStore
from asgi_redis_session.cookie import SentCookies
from asgi_redis_session.testing import SessionKit

from ..support.examples import examples
from ..support.page import Page
from ..support.sessions import PLAIN
from .conftest import Headers, cookie, names_of

ID = "A" * 40 + "_-9"
ID_BYTES = set(string.ascii_letters.encode() + string.digits.encode() + b"-_")


WEEK_MS = 7 * 24 * 3_600 * 1_000


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
    "16 both malformed": lambda i: cookie(b"session=x; session=y"),
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
    "16 the other is malformed": lambda i: cookie(b"session=" + i + b"; session=x"),
    "16 the other is empty": lambda i: cookie(b"session=; session=" + i),
    "16 the other is quoted": lambda i: cookie(b'session="' + i + b'"; session=' + i),
}


_OTHER = b"B" * 43


#: Two different cookies of the same name: nobody can tell which is the browser's own.
CONFLICTS: dict[str, Callable[[bytes], Headers]] = {
    "16 ours first": lambda i: cookie(b"session=" + i + b"; session=" + _OTHER),
    "16 ours last": lambda i: cookie(b"session=" + _OTHER + b"; session=" + i),
    "16 two headers": lambda i: cookie(b"session=" + i, b"session=" + _OTHER),
    "16 two headers, ours last": lambda i: cookie(b"session=" + _OTHER, b"session=" + i),
    "16 three": lambda i: cookie(b"session=" + i + b"; session=" + i + b"; session=" + _OTHER),
}


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
    assert commands.names == ["HGETALL"]
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
    """
    A well-formed id that Redis does not know: it is looked for, then it is looked up whether it has
    ended lately. Nothing is created, and it is never adopted.
    """
    known = kit.cookies({"user": "ada"}, cookie=PLAIN)["session"]
    before = kit.keys()
    altered = alter(known)
    assert altered != known
    headers = cookie(b"session=" + altered.encode())
    with kit.count() as commands:
        response = await page(dict, headers)
        await store.drain()
    assert (response.status_code, page.seen) == (200, {})
    assert commands.scripts == ["load", "absence"]
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


def naive_read(policy: CookiePolicy, headers: Iterable[tuple[bytes, bytes]]) -> SentCookies:
    found = set()
    for header, line in headers:
        if header == b"cookie":
            for part in line.split(b";"):
                name, separator, value = part.lstrip(b" \t").partition(b"=")
                if separator and name == policy.name.encode():
                    found.add(value.strip(b" \t"))
    ids = sorted(value.decode() for value in found if len(value) == 43 and set(value) <= ID_BYTES)
    return SentCookies(ids[0]) if len(ids) == 1 else SentCookies(conflicting=tuple(ids))


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
            *[b"; " + name + b"=" + ID.encode()] * 3,
            b";" + name + b"=\t" + b"B" * 43 + b" ",
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
    """On random requests for each policy, both parsers find the same values."""
    draw = random.Random(policy.name)
    pieces = cookie_pieces(policy)
    found = 0
    number = examples(4_000)
    for _ in range(number):
        headers = [
            (
                draw.choice([b"cookie", b"cookie", b"cookie", b"set-cookie", b"cookies"]),
                b"".join(draw.choices(pieces, k=draw.randrange(14))),
            )
            for _ in range(draw.choice([1, 1, 1, 2, 3]))
        ]
        sent = policy.read(headers)
        assert sent == naive_read(policy, headers)
        found += sent != SentCookies()
    assert found > number / 8


@settings(max_examples=examples(500), deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from(POLICIES))
def test_arbitrary_bytes_are_read_as_the_simple_parser_reads_them(
    lines: list[bytes], policy: CookiePolicy
) -> None:
    """No bytes make the parser fail, nor find what is not there."""
    lines.append(policy.name.encode() + b"=" + b"".join(lines))
    headers = cookie(*lines)
    assert policy.read(headers) == naive_read(policy, headers)


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
    assert PLAIN.read(headers) == naive_read(PLAIN, headers)


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
        assert (kind, commands.scripts) == (kind, ["load", "absence"] if reaches else [])


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
