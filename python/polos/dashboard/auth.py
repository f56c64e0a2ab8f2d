"""Access control: which requests may read, and which may change something.

Every web page that a user visits can reach a dashboard on the loopback address. The defenses:

- *Host*: without a token, only requests under this machine's own names are answered, so a foreign
  name that resolves to 127.0.0.1 (DNS rebinding) is rejected.
- *Origin*: requests from another site are rejected, as far as the browser reports it (``Origin``,
  ``Sec-Fetch-Site``), except for followed links to a page.
- *A secret in each form* that another site cannot read, compared with one in a cookie.
- *A token*, if one is set: given once, in the URL or a form, and exchanged for a signed session in
  a cookie that scripts cannot read. Signing out ends the session, not only the cookie.
- *No inline script or style, nothing from elsewhere, no frames* (Content-Security-Policy).

Several processes may serve one dashboard; they share only the token. A process remembers the
sessions that it ended, and accepts no session from before its own start, so that an ended session
is not valid again after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from polos._validate.formatting import shown
from polos.dashboard.proxy import InvalidHeader, ProxyConfig
from polos.exceptions import InvalidArgumentError

__all__ = ["AccessMiddleware", "AccessRules", "Refused", "is_loopback"]

TOKEN_LENGTH_MIN = 16
SESSION_SECONDS = 12 * 3_600
FORM_COOKIE = "polos_form"

_PROCESS_STARTED = int(time.time())
_ended: dict[str, int] = {}  # sessions that were signed out, and when they expire anyway
_ended_lock = threading.Lock()

# RFC 9110 allows a name or an address and a port, nothing else; URL parsers accept more.
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)")

_SAFE_METHODS = ("GET", "HEAD")
# Headers with which a proxy reports the client of a request.
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it, browsers send forms with `Origin: null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Refusal = Callable[[Request, "Refused"], Awaitable[Response]]


class Refused(Exception):
    """A rejected request. The text says why, and what would be right."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The access rules, and the secrets of signed-in browsers."""

    token: str | None = None
    allow_remote: bool = False

    @classmethod
    def checked(cls, token: Any, allow_remote: Any) -> AccessRules:
        """Build the rules from the arguments of :func:`polos.ui`."""
        if token is not None:
            if not isinstance(token, str) or not token.isascii() or not token.isprintable():
                raise InvalidArgumentError("token: expected a text of printable ASCII characters")
            if len(token) < TOKEN_LENGTH_MIN:
                raise InvalidArgumentError(
                    f"token: {len(token)} characters given, expected at least "
                    f"{TOKEN_LENGTH_MIN}; `secrets.token_urlsafe()` generates one"
                )
        if not isinstance(allow_remote, bool):
            raise InvalidArgumentError(
                f"allow_remote: {shown(allow_remote)} given, expected `True` or `False`"
            )
        return cls(token, allow_remote)

    # -- tokens and sessions ------------------------------------------------------------------

    def is_token(self, given: str | None) -> bool:
        """Whether this is the token."""
        if self.token is None or given is None:
            return False
        return hmac.compare_digest(self.token.encode(), given.encode("utf-8", "replace"))

    def new_session(self) -> str:
        """Return a signed session cookie with its expiry time."""
        text = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(8)}"
        return f"{text}.{self._signed(text)}"

    def is_session(self, cookie: str | None) -> bool:
        """Whether this dashboard signed the cookie, and it has not expired."""
        text, _, signature = (cookie or "").rpartition(".")
        if not text or not hmac.compare_digest(
            self._signed(text).encode(), signature.encode("utf-8", "replace")
        ):
            return False
        until = text.partition(".")[0]
        if not until.isdecimal() or int(until) <= time.time() or text in _ended:
            return False
        return int(until) - SESSION_SECONDS >= _PROCESS_STARTED

    def end_session(self, cookie: str | None) -> None:
        """Stop accepting this cookie and all copies of it."""
        if not self.is_session(cookie):
            return
        text = (cookie or "").rpartition(".")[0]
        now = time.time()
        with _ended_lock:
            for other in [other for other, until in _ended.items() if until <= now]:
                del _ended[other]
            _ended[text] = int(text.partition(".")[0])

    @property
    def session_cookie(self) -> str:
        """The cookie's name. Dashboards on other ports of this machine share its cookies."""
        return f"polos_session_{self._signed('name')[:8]}"

    def _signed(self, text: str) -> str:
        key = (self.token or "").encode()
        return hmac.new(key, f"polos-dashboard:{text}".encode(), hashlib.sha256).hexdigest()

    def is_signed_in(self, request: Request) -> bool:
        """Whether a request is authenticated, by cookie or by ``Authorization: Bearer``."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self.is_session(request.cookies.get(self.session_cookie))

    # -- the origin of a request --------------------------------------------------------------

    def check_host(self, request: Request) -> None:
        """Without a token, accept only requests from this machine, under one of its own names."""
        if self.token is not None or self.allow_remote:
            return
        client = request.client
        if client is not None and client.host and not is_loopback(client.host):
            raise Refused(
                403,
                "this dashboard answers only requests from its own machine; to reach it from "
                "elsewhere, set a token (token=...), or allow_remote=True if the application "
                "authenticates its users",
            )
        if any(name in request.headers for name in _FORWARDING):
            raise Refused(
                403,
                "this request came through a proxy, and this dashboard answers only requests from "
                "its own machine; set a token (token=...), or allow_remote=True if the "
                "application authenticates its users",
            )
        name = _host_name(request.headers.get("host", ""))
        if not (name == "localhost" or name.endswith(".localhost") or is_loopback(name)):
            raise Refused(
                403,
                f"the host name {shown(name)} isn't one of this machine's; use "
                f"`localhost` or `127.0.0.1`, or give the dashboard a token (token=...)",
            )

    def check_origin(self, request: Request) -> None:
        """Reject requests that another site made, except links that were followed."""
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and not self._is_own_origin(request, origin.lower()):
            place = f"{request.url.scheme}://{headers.get('host', '')}"
            raise Refused(
                403,
                f"this request comes from {shown(origin)}, the dashboard is at {shown(place)}; "
                f"behind a proxy, let it pass the `Host` header on and send `X-Forwarded-Proto`, "
                f"and name its address (trusted_proxies=[...])",
            )
        site = headers.get("sec-fetch-site", "none")
        is_link = (
            request.method in _SAFE_METHODS
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        if site not in ("same-origin", "none") and not is_link:
            raise Refused(403, "this request was made by another site")
        if request.method not in _SAFE_METHODS and origin is None:
            referrer = headers.get("referer")
            if referrer is not None and not self._is_own_origin(request, _origin_of(referrer)):
                raise Refused(403, "this request was made by another site")

    def _is_own_origin(self, request: Request, origin: str) -> bool:
        """Whether this is the dashboard's own origin: scheme, name, and port."""
        scheme = request.url.scheme
        match = _ORIGIN.fullmatch(origin)
        if match is None:
            return False
        theirs = _without_default_port(match[1], match[2])
        host = request.headers.get("host", "").lower()
        if theirs != _without_default_port(match[1], host):
            return False
        if match[1] == scheme:
            return True
        # If a proxy ends TLS and does not report it, rely on what the browser reports.
        is_open = self.token is not None or self.allow_remote
        browser_says_same_origin = request.headers.get("sec-fetch-site") == "same-origin"
        return is_open and browser_says_same_origin and (match[1], scheme) == ("https", "http")


def is_loopback(host: str) -> bool:
    """Whether this is a loopback address."""
    name, percent, _ = host.partition("%")
    if percent and ":" not in name:  # only IPv6 addresses have a zone
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _origin_of(url: str) -> str:
    """Return scheme, name, and port of a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()


def _without_default_port(scheme: str, place: str) -> str:
    return place.removesuffix({"http": ":80", "https": ":443"}[scheme])


def _host_name(host: str) -> str:
    """Return the name in a ``Host`` header, without its port; empty if the header is not valid."""
    match = _HOST.fullmatch(host)
    return "" if match is None else (match[1] or match[2]).removesuffix(".").lower()


# --- forms -----------------------------------------------------------------------------------


def form_secret(request: Request) -> str:
    """Return the secret for a form, derived from a cookie that no other site and no script can
    read.
    """
    nonce = _form_nonce(request)
    return hmac.new(nonce.encode(), b"polos-form", hashlib.sha256).hexdigest()


def _form_nonce(request: Request) -> str:
    """Return the cookie's value, or the value of the cookie that is about to be set."""
    nonce = request.cookies.get(FORM_COOKIE, "")
    if len(nonce) != 43 or not nonce.isascii():
        nonce = request.scope.setdefault("polos.form_nonce", secrets.token_urlsafe(32))
    return nonce


def check_form(request: Request, given: str) -> None:
    """Check that a form was created by one of our pages, for this browser."""
    has_cookie = FORM_COOKIE in request.cookies
    if not has_cookie or not hmac.compare_digest(
        form_secret(request).encode(), given.encode("utf-8", "replace")
    ):
        raise Refused(
            403,
            "this form has expired, or cookies are disabled; go back, reload the page, and try "
            "again",
        )


# --- middleware ------------------------------------------------------------------------------


class AccessMiddleware:
    """Checks each request before the application sees it, and sets the headers of each response."""

    def __init__(
        self, app: ASGIApp, rules: AccessRules, proxy: ProxyConfig, refuse: Refusal
    ) -> None:
        self._app = app
        self._rules = rules
        self._proxy = proxy
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        try:
            scope, trouble = self._proxy.seen_from(scope), None
        except InvalidHeader as error:
            trouble = Refused(400, str(error))
        request = Request(scope, receive)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._set_headers(request, MutableHeaders(scope=message))
            await send(message)

        try:
            if trouble is not None:
                raise trouble
            answer = self._checked(request)
        except Refused as refused:
            answer = await self._refuse(request, refused)
        await (answer or self._app)(scope, receive, send_guarded)

    def _checked(self, request: Request) -> Response | None:
        """Return a response in place of the application's, or ``None``, or raise."""
        rules = self._rules
        rules.check_host(request)
        rules.check_origin(request)
        if rules.token is None or is_public(request):
            return None
        given = request.query_params.get("token")
        if given is not None and request.method in _SAFE_METHODS:
            if not rules.is_token(given):
                raise Refused(
                    401, "this token is wrong; the dashboard printed the right one when it started"
                )
            # Remove the token from the address bar, the history, and copied links.
            response = RedirectResponse(_without_token(request), status_code=303)
            set_session(request, response, rules)
            return response
        if not rules.is_signed_in(request):
            raise Refused(401, "this dashboard needs its token")
        return None

    def _set_headers(self, request: Request, headers: MutableHeaders) -> None:
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("cache-control", "no-store")
        nonce = request.scope.get("polos.form_nonce")
        if nonce is not None:
            headers.append("set-cookie", cookie(request, FORM_COOKIE, nonce))


def is_public(request: Request) -> bool:
    """Whether a path needs no token: the sign-in page's style sheet and form."""
    path = own_path(request.scope)
    return path.startswith("/static/") or path == "/login"


def own_path(scope: Scope) -> str:
    """Return the path below the dashboard's mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def set_session(request: Request, response: Response, rules: AccessRules) -> None:
    """Sign this browser in."""
    response.headers.append(
        "set-cookie", cookie(request, rules.session_cookie, rules.new_session(), SESSION_SECONDS)
    )


def cookie(request: Request, name: str, value: str, seconds: int | None = None) -> str:
    """Return a cookie that scripts cannot read and that other sites' requests do not carry."""
    path = request.scope.get("root_path", "").rstrip("/") or "/"
    # The mount's path is trusted, but a `;` in it must not become an attribute.
    path = path if path.isascii() and ";" not in path and path.isprintable() else "/"
    parts = [f"{name}={value}", f"Path={path}", "HttpOnly", "SameSite=Strict"]
    if seconds is not None:
        parts.append(f"Max-Age={seconds}")
    if request.url.scheme == "https":
        parts.append("Secure")
    return "; ".join(parts)


def _without_token(request: Request) -> str:
    root = request.scope.get("root_path", "").rstrip("/")
    rest = [(name, text) for name, text in request.query_params.multi_items() if name != "token"]
    # A single slash: `//name` would be another host.
    path = f"{root}/{own_path(request.scope).lstrip('/')}"
    return f"{path}?{urlencode(rest)}" if rest else path
