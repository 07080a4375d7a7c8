"""
Sessions of identity providers (OpenID Connect) and users who act: ours end when they do.

What a provider calls a session (`sid`) and its user (`sub`) are keys of their own, and so is a user
who acts for others (`actor`). Each lists our users who have logged in on it, and notes when it has
ended. A login enters its keys before its other steps, and looks at them again after the last one;
an end is noted first, and then ends what it finds. So whichever comes first, the other one sees it.
"""

import asyncio

from msgspec.structs import replace

from ..absence import Absence
from ..errors import SessionGone
from ..transport.client import Client
from . import scripts
from .links import Link, digest_of

_HOUR_MS = 3_600_000
#: For sessions without a deadline. Each login has a new `sid`, so these keys must go some time; a
#: provider's own session is shorter than browsers keep any cookie.
_LONGEST_MS = 400 * 24 * _HOUR_MS
#: How long an end is remembered at least: longer than a login takes.
_KEPT_MS = _HOUR_MS


class Providers:
    """The keys of one store."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def enter(self, link: Link, user_id: str, lifetime_ms: int | None) -> Link:
        """Enter a login into its keys. Raises `SessionGone` if the provider has ended them."""
        lasts_ms = _LONGEST_MS
        if lifetime_ms is not None:
            lasts_ms = min(_LONGEST_MS, lifetime_ms + _HOUR_MS)
        entered = []
        for name in link.names:
            arguments = (user_id, int(name.startswith("sid:")), lasts_ms)
            reply = await self._client.call(
                scripts.PROVIDER_ENTER, (self._client.key(name),), arguments
            )
            if reply.entered_ms == scripts.GONE:
                raise SessionGone(Absence("revoked"))
            entered.append(reply.entered_ms)
        return replace(link, entered_ms=tuple(entered))

    async def has_ended(self, link: Link) -> bool:
        """Whether the provider has ended one of the keys since the login has entered them."""
        for name, since_ms in zip(link.names, link.entered_ms, strict=True):
            reply = await self._client.call(
                scripts.PROVIDER_CHECK, (self._client.key(name),), (since_ms,), idempotent=True
            )
            if reply.has_ended:
                return True
        return False

    async def has_seen(self, issuer: str, jti: str) -> bool:
        """Whether a token was used before."""
        key = self._token_key(issuer, jti)
        reply = await self._client.call(scripts.PROVIDER_CHECK, (key,), (0,), idempotent=True)
        return bool(reply.has_ended)

    async def remember(self, issuer: str, jti: str, lasts_ms: int) -> None:
        """Note that a token was used."""
        key = self._token_key(issuer, jti)
        await self._client.call(scripts.PROVIDER_REVOKE, (key,), (lasts_ms,), idempotent=True)

    def _token_key(self, issuer: str, jti: str) -> bytes:
        return self._client.key(f"jti:{digest_of(issuer, jti)}")

    async def end(self, link: Link, *, if_entered: bool = False) -> set[str]:
        """
        Note that this has ended; returns the users who have logged in on it.

        *if_entered*: note nothing if no login has entered it. What enters later begins later.
        """
        replies = await asyncio.gather(
            *[
                self._client.call(
                    scripts.PROVIDER_REVOKE,
                    (self._client.key(name),),
                    (_KEPT_MS, int(if_entered)),
                    idempotent=True,
                    own_connection=True,
                )
                for name in link.names
            ]
        )
        members = [member for reply in replies for member in reply.members]
        return {
            member.removeprefix(b"user:").decode()
            for member in members
            if member.startswith(b"user:")
        }
