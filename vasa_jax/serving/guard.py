"""Who may ask, from where, and how much: what every request passes before anything of it is read.

A browser lets any web site send requests to this machine. So requests must name this server as their host, else a name
that an attacker owns could be pointed here. What comes from another site's page is refused, WebSockets too.
"""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "vasa_studio"
OPEN = ("/v1/login", "/v1/health")  # beside the page's own files
MANNERS = {
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware. A refused HTTP request gets JSON {"detail": line}, a WebSocket is not opened."""

    def __init__(self, app: ASGIApp, *, key: str, names: Iterable[str], largest: float, seconds: float):
        """key: empty = none needed. names: hosts that may be asked for, empty = any.

        largest: bytes of a request's body, which may take `seconds` to come.
        """
        self._app, self._key, self._names = app, key, frozenset(name.lower() for name in names)
        self._largest, self._seconds = largest, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        elif refusal:
            status, line = refusal
            response = JSONResponse({"detail": line}, status, headers={**MANNERS, "connection": "close"})
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, self._bounded(receive), _well_mannered(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or (self._names and _name(host) not in self._names):
            return 421, "the request names another host; ask for this server's own name, see studio.names"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "the request comes from another site; use this server's own page, or a program"
        path = scope["path"]
        guarded = (path.startswith("/v1/") and path not in OPEN) or path == "/metrics"
        if guarded and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "the request comes from another site; use this server's own page, or a program"
        if guarded and self._key and not self._knows_key(headers):
            return 401, "the key is missing or wrong; send the header Authorization: Bearer KEY"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._largest:
            return 413, self._too_large()
        return None

    def _knows_key(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same_secret(given.strip(), self._key):
            return True
        if same_secret(headers.get("x-api-key", ""), self._key):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same_secret(cookie.value, cookie_of(self._key))

    def _too_large(self) -> str:
        return f"the request is larger than {self._largest / 2**20:g} MiB; send smaller files"

    def _bounded(self, receive: Receive) -> Receive:
        read, end = 0, time.monotonic() + self._seconds
        complete = False

        async def bounded() -> Message:
            nonlocal read, complete
            if complete:
                return await receive()  # which tells when the client has gone
            try:
                message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.001))
            except TimeoutError:
                raise HTTPException(408, f"the request took longer than {self._seconds:g} s; send it faster") from None
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > self._largest:
                raise HTTPException(413, self._too_large())
            return message

        return bounded


def same_secret(given: str, wanted: str) -> bool:
    """Returns whether two texts are equal, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


def cookie_of(key: str) -> str:
    """Returns what the page's cookie holds in the place of the key."""
    return hmac.new(key.encode(), b"vasa_jax studio page", hashlib.sha256).hexdigest()


def _name(host: str) -> str:
    """Returns the name of a host header, without its port."""
    return re.sub(r":\d*$", "", host).lower()


def _well_mannered(send: Send) -> Send:
    async def mannered(message: Message) -> None:
        if message["type"] == "http.response.start":
            have = {name.lower() for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in MANNERS.items() if k.encode() not in have]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return mannered
