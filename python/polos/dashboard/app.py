"""The dashboard as an ASGI application: routes, responses, and error pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from polos._core.safe_logging import quiet_logger
from polos._validate.formatting import shown
from polos.client import PolosClient, checked_client
from polos.dashboard import auth as guard
from polos.dashboard.actions import ACTIONS, DONE, Action, set_calendar
from polos.dashboard.auth import AccessMiddleware, AccessRules, Refused
from polos.dashboard.metrics import metrics
from polos.dashboard.proxy import ProxyConfig
from polos.dashboard.queries import Reader
from polos.dashboard.sse import Fragment, Live
from polos.dashboard.templating import Renderer, static_file
from polos.dashboard.views import PAGES, Ask, PageMaker, Redirect
from polos.exceptions import (
    BackfillNotFoundError,
    CalendarNotFoundError,
    InvalidArgumentError,
    InvalidStateError,
    LimitNotFoundError,
    PolosError,
    RunNotFoundError,
    ScheduleNotFoundError,
    ShutdownError,
    StoreError,
    StoreVersionError,
    WorkflowNotFoundError,
)

__all__ = ["Dashboard"]

_log = quiet_logger("polos.dashboard")

FORM_SIZE_MAX = 16_384
# A form that holds a file, such as a calendar of 10,000 dates.
FILE_SIZE_MAX = 1_048_576

Respond = Callable[[Request], Awaitable[Response]]

_TITLES = {
    400: "Bad request",
    401: "Sign in",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Not possible now",
    413: "Too large",
    503: "The database is unavailable",
}


class Dashboard:
    """Pages about one client's database; an ASGI application.

    See :func:`polos.ui` for the arguments.
    """

    def __init__(
        self,
        client: PolosClient,
        *,
        token: str | None = None,
        allow_remote: bool = False,
        hide_payloads: bool = False,
        root_path: str = "",
        trusted_proxies: Iterable[str] = (),
    ) -> None:
        if not isinstance(hide_payloads, bool):
            raise InvalidArgumentError(
                f"hide_payloads: {shown(hide_payloads)} given, expected `True` or `False`"
            )
        self._rules = AccessRules.checked(token, allow_remote)
        proxy = ProxyConfig.checked(root_path, trusted_proxies)
        self._reader = Reader(checked_client(client))
        self._renderer = Renderer(client, hide_payloads=hide_payloads, has_token=token is not None)
        self._live = Live()
        routes = [
            *(self._page_route(path, make) for path, make in PAGES.items()),
            *(self._action_route(path, act) for path, act in ACTIONS.items()),
            self._route("/login", self._sign_in, "POST"),
            self._route("/logout", self._sign_out, "POST"),
            self._route("/metrics", self._metrics, "GET"),
            self._route("/static/{name}", self._static, "GET"),
        ]
        application = Starlette(
            routes=routes,
            exception_handlers={404: self._no_such_page, 405: self._no_such_method},
        )
        self._app = AccessMiddleware(application, self._rules, proxy, self._refuse)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        await self._app(scope, receive, send)

    def __repr__(self) -> str:
        return f"<Dashboard of {self._reader.client!r}>"

    def close(self) -> None:
        """End the event streams of open pages, so that a server can stop."""
        self._live.close()

    # -- routes -------------------------------------------------------------------------------

    def _route(self, path: str, respond: Respond, method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._answered(request, respond)

        return Route(path, endpoint, methods=[method])

    def _page_route(self, path: str, make: PageMaker) -> Route:
        async def respond(request: Request) -> Response:
            return await self._page(request, make)

        return self._route(path, respond, "GET")

    def _action_route(self, path: str, act: Action) -> Route:
        async def respond(request: Request) -> Response:
            form = await _form(request, FILE_SIZE_MAX if act is set_calendar else FORM_SIZE_MAX)
            guard.check_form(request, form.get("secret", ""))
            await self._reader.check()
            after = await act(self._reader.client, request.path_params.get("id", ""), form)
            return RedirectResponse(_root(request) + quote(after, safe="/?=&"), status_code=303)

        return self._route(path, respond, "POST")

    # -- responses ----------------------------------------------------------------------------

    async def _page(self, request: Request, make: PageMaker) -> Response:
        params = dict(request.query_params)
        seen, done = params.pop("live", None), params.pop("done", None)
        root, path = _root(request), guard.own_path(request.scope)
        ask = Ask(self._reader, params, request.path_params.get("id", ""))

        async def render() -> Fragment:
            try:
                await self._reader.check()
                page = await make(ask)
            except PolosError as error:
                _, _, text = _trouble(error)
                return Fragment("", "", text)
            if isinstance(page, Redirect):
                return Fragment("", "", "this page has moved; reload it")
            return self._renderer.fragment(page, root, path=path)

        if seen is not None:
            address = f"{root}{path}?{sorted(params.items())}"
            stream = self._live.open(address, render, seen)
            return stream or PlainTextResponse(  # type: ignore[return-value]
                "too many pages are open; this one does not update itself",
                status_code=503,
                headers={"retry-after": "30"},
            )
        await self._reader.check()
        page = await make(ask)
        if isinstance(page, Redirect):
            return RedirectResponse(root + quote(page.path), status_code=303)
        html = self._renderer.page(
            page,
            root,
            path=path,
            secret=guard.form_secret(request),
            confirmation=DONE.get(done or ""),
        )
        return HTMLResponse(html)

    async def _metrics(self, request: Request) -> Response:
        await self._reader.check()
        return PlainTextResponse(
            await metrics(self._reader), media_type="text/plain; version=0.0.4"
        )

    async def _static(self, request: Request) -> Response:
        found = static_file(request.path_params["name"])
        if found is None:
            raise Refused(404, "there is no such file")
        content, kind = found
        return Response(
            content, headers={"content-type": kind, "cache-control": "max-age=86400, immutable"}
        )

    async def _sign_in(self, request: Request) -> Response:
        form = await _form(request)
        guard.check_form(request, form.get("secret", ""))
        if not self._rules.is_token(form.get("token")):
            raise Refused(
                401, "this token is wrong; the dashboard printed the right one when it started"
            )
        response = RedirectResponse(f"{_root(request)}/", status_code=303)
        guard.set_session(request, response, self._rules)
        return response

    async def _sign_out(self, request: Request) -> Response:
        form = await _form(request)
        guard.check_form(request, form.get("secret", ""))
        self._rules.end_session(request.cookies.get(self._rules.session_cookie))
        response = RedirectResponse(f"{_root(request)}/", status_code=303)
        response.headers.append(
            "set-cookie", guard.cookie(request, self._rules.session_cookie, "", 0)
        )
        return response

    # -- errors -------------------------------------------------------------------------------

    async def _answered(self, request: Request, respond: Respond) -> Response:
        try:
            return await respond(request)
        except Refused as refused:
            return await self._refuse(request, refused)
        except ClientDisconnect:
            return Response(status_code=400)
        except PolosError as error:
            status, retry, text = _trouble(error)
            return self._notice(request, status, text, retry=retry)
        except Exception:
            _log.exception("the dashboard can't answer %s", guard.own_path(request.scope))
            return self._notice(
                request, 500, "the dashboard has failed; the log of its process "
                "has the details",
            )  # fmt: skip

    async def _refuse(self, request: Request, refused: Refused) -> Response:
        response = self._notice(request, refused.status, refused.reason)
        if refused.status == 401:
            response.headers["www-authenticate"] = "Bearer"
        return response

    async def _no_such_page(self, request: Request, error: Exception) -> Response:
        return self._notice(request, 404, "there is no such page")

    async def _no_such_method(self, request: Request, error: Exception) -> Response:
        return self._notice(request, 405, "this address accepts only forms")

    def _notice(self, request: Request, status: int, text: str, retry: int = 0) -> Response:
        """Return one sentence, as a page or as text for programs."""
        headers = {"retry-after": str(retry)} if retry else {}
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(f"{text}\n", status_code=status, headers=headers)
        html = self._renderer.notice(
            status,
            _TITLES.get(status, "Something went wrong"),
            f"{text[:1].upper()}{text[1:]}.",
            _root(request),
            retry=retry,
            secret=guard.form_secret(request) if status == 401 else "",
        )
        return HTMLResponse(html, status_code=status, headers=headers)


def _trouble(error: PolosError) -> tuple[int, int, str]:
    """Return the status, the seconds until a retry makes sense (or 0), and the sentence."""
    text = " ".join(str(error).split())
    if isinstance(error, (ScheduleNotFoundError, RunNotFoundError, BackfillNotFoundError)):
        # The rest of the message is for programs.
        what = text.partition(";")[0]
        return 404, 0, f"{what}; it may have been deleted, or pruned because of its age"
    if isinstance(error, LimitNotFoundError):
        return 404, 0, text
    if isinstance(error, CalendarNotFoundError):
        return 404, 0, f"{text.partition(';')[0]}; it may have been deleted"
    if isinstance(error, InvalidStateError):
        return 409, 0, text
    if isinstance(error, StoreVersionError):
        return 503, 0, text
    if isinstance(error, (StoreError, ShutdownError)):
        return 503, 5, text
    if isinstance(error, (InvalidArgumentError, ValueError, WorkflowNotFoundError)):
        return 400, 0, text
    return 500, 0, text


async def _form(request: Request, size_max: int = FORM_SIZE_MAX) -> dict[str, str]:
    """Return the fields of a form. A body that is too long is rejected."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(400, "expected a form (application/x-www-form-urlencoded)")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > size_max:
            raise Refused(413, f"a form of more than {size_max} bytes is too large")
    try:
        text = body.decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=50, errors="strict"))
    except ValueError:
        raise Refused(400, "the form cannot be read") from None


def _root(request: Request) -> str:
    """Return the path before our own paths: the mount's path, and what a proxy removed."""
    root: Any = request.scope.get("root_path", "")
    return quote(str(root).rstrip("/"), safe="/")
