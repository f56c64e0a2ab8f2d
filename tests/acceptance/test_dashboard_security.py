"""Access to the dashboard, and protection against requests of other sites."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard_forms import NAVIGATION, secret_in, submit
from starlette.applications import Starlette
from starlette.routing import Mount

import polos
import polos.dashboard
from polos import (
    InvalidArgumentError,
    Limit,
    PolosClient,
    Worker,
    limits,
    schedules,
    workflow,
)
from polos.dashboard import auth as guard

TOKEN = "correct-horse-battery-staple"
PAGES = ["/", "/schedules", "/runs", "/backfills", "/calendars", "/limits", "/workers", "/metrics"]
ASSETS = Path(polos.dashboard.__file__).parent
KEY = "user-of-the-shop"  # no random secret, id or token of a page can contain it by chance


@pytest.fixture
async def schedule(client: PolosClient) -> str:
    @workflow(id="job", schedule=True)
    async def job() -> None: ...

    return await schedules.create(client, job, every=timedelta(hours=1), key=KEY)


async def status_of(client: PolosClient, schedule: str) -> str:
    return (await schedules.get(client, schedule)).status


# --- this machine only -----------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", ""])
async def test_this_machine_may_look_without_a_token(
    client: PolosClient, schedule: str, visit: Any, address: str
):
    browser = await visit(polos.ui(client), address=address)
    assert (await browser.get("/")).status_code == 200


@pytest.mark.parametrize(
    "address", ["192.168.1.7", "10.0.0.1", "8.8.8.8", "fe80::1%eth0", "::ffff:10.0.0.1", "proxy"]
)
async def test_other_machines_get_nothing_without_a_token(
    client: PolosClient, schedule: str, visit: Any, address: str
):
    browser = await visit(polos.ui(client), address=address)
    for page in [*PAGES, "/static/polos.css", f"/schedules/{schedule}"]:
        answer = await browser.get(page)
        assert answer.status_code == 403
        assert "token=..." in answer.text
        assert KEY not in answer.text
        assert str(client.database) not in answer.text


@pytest.mark.parametrize(
    "header",
    [{"x-forwarded-for": "8.8.8.8"}, {"forwarded": "for=8.8.8.8"}, {"via": "1.1 proxy"},
     {"x-real-ip": "127.0.0.1"}, {"x-forwarded-host": "localhost"}],
)  # fmt: skip
async def test_what_comes_through_a_proxy_is_not_this_machine(
    client: PolosClient, schedule: str, visit: Any, header: dict[str, str]
):
    answer = await (await visit(polos.ui(client))).get("/", headers=header)
    assert answer.status_code == 403
    assert "through a proxy" in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "app.localhost:80", "127.0.0.1:8000",
             "[::1]:8000", "localhost."],
)  # fmt: skip
async def test_names_of_this_machine_are_answered(
    client: PolosClient, schedule: str, visit: Any, host: str
):
    answer = await (await visit(polos.ui(client))).get("/", headers={"host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "notlocalhost",
             "127.0.0.1.nip.io", "192.168.1.7", "", "[::1", "0x7f.1", "localhost@evil.example:80",
             "evil.example#localhost"],
)  # fmt: skip
async def test_a_foreign_name_that_is_pointed_at_this_machine_gets_nothing(
    client: PolosClient, schedule: str, visit: Any, host: str
):
    browser = await visit(polos.ui(client))
    for page in [*PAGES, "/static/polos.js", f"/schedules/{schedule}"]:
        answer = await browser.get(page, headers={"host": host})
        assert answer.status_code == 403, host
        assert KEY not in answer.text


async def test_mounted_where_others_can_reach_it_it_stays_closed(
    client: PolosClient, schedule: str, visit: Any
):
    app = Starlette(routes=[Mount("/polos", app=polos.ui(client))])
    browser = await visit(app, address="8.8.8.8", base="https://shop.example")
    assert (await browser.get("/polos/")).status_code == 403


async def test_where_the_application_checks_its_users_it_can_be_opened(
    client: PolosClient, schedule: str, visit: Any
):
    app = polos.ui(client, allow_remote=True)
    browser = await visit(app, address="8.8.8.8", base="https://shop.example")
    assert (await browser.get("/")).status_code == 200
    page = f"/schedules/{schedule}"
    assert (await submit(browser, page, f"{page}/pause")).status_code == 303
    # Other sites still can't use its users' browsers.
    seen = await browser.get(page)
    answer = await browser.post(
        f"{page}/resume",
        data={"secret": secret_in(seen)},
        headers={"origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert await status_of(client, schedule) == "paused"


# --- other sites -----------------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://localhost:6765.evil.example"},
    {"origin": "http://[localhost:6765"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"referer": "http://evil.example/"},
]


@pytest.mark.parametrize("header", FOREIGN)
async def test_forms_of_other_sites_do_nothing_even_with_the_secret(
    client: PolosClient, schedule: str, visit: Any, header: dict[str, str]
):
    browser = await visit(polos.ui(client))
    page = f"/schedules/{schedule}"
    secret = secret_in(await browser.get(page))
    answer = await browser.post(f"{page}/pause", data={"secret": secret}, headers=header)
    assert answer.status_code == 403
    assert await status_of(client, schedule) == "active"


@pytest.mark.parametrize("header", [*FOREIGN, {}])
@pytest.mark.parametrize("path", ["/limits", "/limits/reset", "/limits/delete"])
async def test_no_other_site_changes_a_limit(
    client: PolosClient, visit: Any, path: str, header: dict[str, str]
):
    @workflow(id="ask", concurrency=Limit("openai", 5))
    async def ask() -> None: ...

    async with Worker(client, drain=0):
        await limits.set(client, "openai", 3)
    browser = await visit(polos.ui(client))
    # With the secret from another site, and without it from this one.
    secret = secret_in(await browser.get("/limits")) if header else "0" * 64
    form = {"secret": secret, "name": "openai", "max": "2"}
    answer = await browser.post(path, data=form, headers=header)
    assert answer.status_code == 403
    assert (await limits.get(client, "openai")).max == 3


@pytest.mark.parametrize("secret", ["", "0" * 64, "é"])
async def test_forms_without_the_secret_do_nothing(
    client: PolosClient, schedule: str, visit: Any, secret: str
):
    browser = await visit(polos.ui(client))
    page = f"/schedules/{schedule}"
    await browser.get(page)
    answer = await browser.post(f"{page}/pause", data={"secret": secret})
    assert answer.status_code == 403
    assert "reload the page" in answer.text
    assert await status_of(client, schedule) == "active"


async def test_the_secret_of_one_browser_is_of_no_use_in_another(
    client: PolosClient, schedule: str, visit: Any
):
    app, page = polos.ui(client), f"/schedules/{schedule}"
    one, other = await visit(app), await visit(app)
    secret = secret_in(await one.get(page))
    await other.get(page)
    assert (await other.post(f"{page}/pause", data={"secret": secret})).status_code == 403
    other.cookies.clear()
    assert (await other.post(f"{page}/pause", data={"secret": secret})).status_code == 403
    assert await status_of(client, schedule) == "active"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {"origin": "http://evil.example"},
    ],
)
async def test_other_sites_embed_and_fetch_nothing(
    client: PolosClient, schedule: str, visit: Any, headers: dict[str, str]
):
    browser = await visit(polos.ui(client))
    for page in [*PAGES, "/static/polos.js"]:
        assert (await browser.get(page, headers=headers)).status_code == 403


async def test_links_from_other_sites_may_be_followed(
    client: PolosClient, schedule: str, visit: Any
):
    browser = await visit(polos.ui(client))
    answer = await browser.get("/", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200


async def test_nothing_is_done_by_looking(client: PolosClient, schedule: str, visit: Any):
    browser = await visit(polos.ui(client))
    for action in ("pause", "resume", "skip", "trigger"):
        answer = await browser.get(f"/schedules/{schedule}/{action}")
        assert answer.status_code == 405
    assert await status_of(client, schedule) == "active"


async def test_forms_that_are_none_of_ours_are_not_read(
    client: PolosClient, schedule: str, visit: Any
):
    browser = await visit(polos.ui(client))
    page = f"/schedules/{schedule}"
    secret = secret_in(await browser.get(page))
    large = await browser.post(f"{page}/pause", data={"secret": secret, "note": "x" * 20_000})
    assert large.status_code == 413
    json = await browser.post(f"{page}/pause", json={"secret": secret})
    assert json.status_code == 400
    broken = await browser.post(
        f"{page}/pause",
        content=b"secret=\xff%",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert broken.status_code == 400
    many = await browser.post(f"{page}/pause", data={f"f{n}": "1" for n in range(200)})
    assert many.status_code == 400
    long = await browser.post(f"{page}/pause", data={"secret": secret, "note": "x" * 501})
    assert long.status_code == 400
    assert await status_of(client, schedule) == "active"


async def test_websockets_are_refused(client: PolosClient):
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    await polos.ui(client)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- the token -------------------------------------------------------------------------------


async def test_with_a_token_nothing_is_shown_without_it(
    client: PolosClient, schedule: str, visit: Any
):
    app = polos.ui(client, token=TOKEN)
    for address in ("127.0.0.1", "8.8.8.8"):
        browser = await visit(app, address=address, base="https://polos.example")
        for page in [*PAGES, f"/schedules/{schedule}", "/nowhere", "/?live=0"]:
            answer = await browser.get(page)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert KEY not in answer.text
            assert str(client.database) not in answer.text
        answer = await browser.post(f"/schedules/{schedule}/pause")
        assert answer.status_code == 401
        assert (await browser.get("/static/polos.css")).status_code == 200
    assert await status_of(client, schedule) == "active"


async def test_the_token_in_the_address_lets_a_browser_in_and_leaves_the_address(
    client: PolosClient, schedule: str, visit: Any
):
    browser = await visit(
        polos.ui(client, token=TOKEN), address="8.8.8.8", base="https://polos.example"
    )
    answer = await browser.get(f"/schedules?status=active&token={TOKEN}&find=a+b%26c")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/schedules?status=active&find=a+b%26c"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    for attribute in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/"):
        assert attribute in cookie
    assert KEY in (await browser.get("/schedules")).text
    page = f"/schedules/{schedule}"
    assert (await submit(browser, page, f"{page}/pause")).status_code == 303


@pytest.mark.parametrize("path", ["//evil.example/", "/%2F%2Fevil.example/", "/\\evil.example"])
async def test_redirects_stay_on_this_host(
    client: PolosClient, schedule: str, visit: Any, path: str
):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=polos.ui(client, token=TOKEN)), headers=NAVIGATION
    ) as browser:
        answer = await browser.get(f"http://localhost{path}?token={TOKEN}")
    place = answer.headers.get("location", "/")
    assert place.startswith("/")
    assert not place.startswith(("//", "/\\"))


async def test_the_token_can_be_typed_in(client: PolosClient, schedule: str, visit: Any):
    browser = await visit(polos.ui(client, token=TOKEN))
    wrong = await submit(browser, "/", "/login", token="wrong")
    assert wrong.status_code == 401
    assert (await browser.get("/")).status_code == 401
    right = await submit(browser, "/", "/login", token=TOKEN)
    assert right.status_code == 303
    assert (await browser.get("/")).status_code == 200
    out = await submit(browser, "/", "/logout")
    assert out.status_code == 303
    assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize("given", ["wrong", TOKEN[:-1], TOKEN + "x", "", "é", TOKEN.upper()])
async def test_no_other_token_will_do(client: PolosClient, schedule: str, visit: Any, given: str):
    browser = await visit(polos.ui(client, token=TOKEN))
    answer = await browser.get("/", params={"token": given})
    assert answer.status_code == 401
    assert not [name for name in answer.cookies if name.startswith("polos_session")]
    bearer = {"authorization": f"Bearer {given}".encode()}
    assert (await browser.get("/metrics", headers=bearer)).status_code == 401


async def test_programs_give_the_token_in_a_header(client: PolosClient, schedule: str, visit: Any):
    browser = await visit(polos.ui(client, token=TOKEN), address="8.8.8.8")
    headers = {"authorization": f"Bearer {TOKEN}"}
    assert "polos_workers 0" in (await browser.get("/metrics", headers=headers)).text


async def test_sessions_cannot_be_made_up_kept_or_carried_over(
    client: PolosClient, schedule: str, visit: Any, monkeypatch: pytest.MonkeyPatch
):
    rules = guard.AccessRules(TOKEN)
    session = rules.new_session()
    assert rules.is_session(session)
    until, nonce, signature = session.split(".")
    for forged in (
        f"{int(until) + 1}.{nonce}.{signature}",
        f"{until}.{nonce}.{signature[::-1]}",
        f"{until}.{nonce}.",
        f"{until}.{nonce}",
        "",
        "..",
        "é.é.é",
        guard.AccessRules(TOKEN + "2").new_session(),
    ):
        assert not rules.is_session(forged), forged
    assert guard.AccessRules(TOKEN).is_session(session)  # by another process of the same server
    now = guard.time.time()
    monkeypatch.setattr(guard.time, "time", lambda: now + guard.SESSION_SECONDS + 1)
    assert not rules.is_session(session)


@pytest.mark.parametrize("token", ["", "short", 7, b"correct-horse-battery", "x" * 20 + "\n"])
def test_tokens_that_would_protect_nothing_are_refused(client: PolosClient, token: Any):
    with pytest.raises(InvalidArgumentError, match="token"):
        polos.ui(client, token=token)


@pytest.mark.parametrize("option", ["allow_remote", "hide_payloads"])
def test_invalid_options_are_refused(client: PolosClient, option: str):
    with pytest.raises(InvalidArgumentError, match=option):
        polos.ui(client, **{option: "no"})
    with pytest.raises(InvalidArgumentError, match="PolosClient"):
        polos.ui("polos.db")  # type: ignore[arg-type]


# --- security headers ------------------------------------------------------------------------


async def test_every_answer_has_the_security_headers(
    client: PolosClient, schedule: str, visit: Any
):
    app = polos.ui(client)
    browser, stranger = await visit(app), await visit(app, address="8.8.8.8")
    answers = [await stranger.get("/"), await browser.post("/login")]
    paths = [*PAGES, f"/schedules/{schedule}", "/static/polos.css", "/nowhere", "/runs/run_1"]
    answers += [await browser.get(path) for path in paths]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        if "/static/" not in str(answer.url):
            assert answer.headers["cache-control"] == "no-store"


def test_nothing_of_ours_is_inline_or_comes_from_elsewhere():
    templates = sorted((ASSETS / "templates").glob("*.html"))
    assert len(templates) >= 8
    for path in [*templates, *(ASSETS / "static").iterdir()]:
        text = path.read_text()
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), path.name
        if path.suffix == ".html":
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", text), path.name
            assert not re.search(r"<script(?![^>]*\ssrc=)", text), path.name
            assert "|safe" not in text
            assert "autoescape" not in text
        if path.suffix == ".css":
            assert "@import" not in text
            assert "url(" not in text
        if path.suffix == ".js":
            assert "innerHTML" not in text
            assert "eval(" not in text


async def test_requests_at_once_do_not_mix_up_their_secrets(
    client: PolosClient, schedule: str, visit: Any
):
    app, page = polos.ui(client), f"/schedules/{schedule}"
    browsers = [await visit(app) for _ in range(8)]
    seen = await asyncio.gather(*(browser.get(page) for browser in browsers))
    secrets = [secret_in(answer) for answer in seen]
    assert len(set(secrets)) == 8
    for browser, secret in zip(browsers, secrets, strict=True):
        assert secret_in(await browser.get(page)) == secret


# --- invalid addresses, origins, and sessions -------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1%00.evil.com", "127.0.0.1/evil.com", "user:pw@localhost", "localhost?x",
     "localhost#x", "localhost:80:80", "localhost:", "localhost ", "[::1%25evil.com]",
     "[::1]evil.com", "::1", "127.0.0.1%", "localhost\\evil.com", "localhost:999999",
     "loc%61lhost", "localhost.."],
)  # fmt: skip
async def test_only_a_name_and_a_port_are_a_host(client: PolosClient, visit: Any, host: str):
    browser = await visit(polos.ui(client))
    answer = await browser.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert not guard.is_loopback("127.0.0.1%00.evil.com")


@pytest.mark.parametrize(
    ("base", "origin", "is_ours"),
    [
        ("http://localhost:6765", "http://localhost:6765", True),
        ("http://localhost:6765", "https://localhost:6765", False),
        ("http://localhost:6765", "https://", False),
        ("http://localhost:6765", "ftp://localhost:6765", False),
        ("http://localhost:6765", "http://u:p@localhost:6765", False),
        ("http://localhost:6765", "http://localhost:6765/", False),
        ("http://localhost", "http://localhost:80", True),
        ("http://localhost", "https://localhost", False),
        ("https://localhost", "https://localhost:443", True),
        ("https://localhost", "http://localhost", False),
    ],
)
async def test_an_origin_is_scheme_name_and_port(
    client: PolosClient, schedule: str, visit: Any, base: str, origin: str, is_ours: bool
):
    browser = await visit(polos.ui(client), base=base)
    page = f"/schedules/{schedule}"
    secret = secret_in(await browser.get(page))
    headers = {"origin": origin, "sec-fetch-site": "same-origin"}
    answer = await browser.post(f"{page}/pause", data={"secret": secret}, headers=headers)
    assert answer.status_code == (303 if is_ours else 403), answer.text
    assert await status_of(client, schedule) == ("paused" if is_ours else "active")


@pytest.mark.parametrize(
    ("header", "trusted", "is_taken"),
    [
        ({"sec-fetch-site": "same-origin"}, [], True),
        ({"sec-fetch-site": "same-site"}, [], False),
        ({"sec-fetch-site": "none"}, [], False),
        ({"sec-fetch-site": "none", "x-forwarded-proto": "https"}, ["10.0.0.0/8"], True),
        ({"sec-fetch-site": "none", "x-forwarded-proto": "https"}, ["10.9.0.1"], False),
        ({"sec-fetch-site": "none", "x-forwarded-proto": "https"}, [], False),
    ],
)
async def test_a_proxy_may_end_tls(
    client: PolosClient, schedule: str, visit: Any, header: Any, trusted: Any, is_taken: bool
):
    app = polos.ui(client, token=TOKEN, trusted_proxies=trusted)
    browser = await visit(app, base="http://polos.example", address="10.0.0.7")
    browser.headers["authorization"] = f"Bearer {TOKEN}"
    page = f"/schedules/{schedule}"
    seen = await browser.get(page)
    headers = {"origin": "https://polos.example", **header}
    answer = await browser.post(f"{page}/pause", data={"secret": secret_in(seen)}, headers=headers)
    assert answer.status_code == (303 if is_taken else 403)
    if not is_taken and header["sec-fetch-site"] == "none":
        assert "trusted_proxies=[...]" in answer.text


async def test_signing_out_ends_the_session_and_all_copies_of_its_cookie(
    client: PolosClient, schedule: str, visit: Any, monkeypatch: pytest.MonkeyPatch
):
    app = polos.ui(client, token=TOKEN)
    browser, other = await visit(app), await visit(app)
    for each in (browser, other):
        assert (await submit(each, "/", "/login", token=TOKEN)).status_code == 303
    thief = await visit(app)
    thief.cookies = httpx.Cookies(browser.cookies)
    assert (await thief.get("/")).status_code == 200
    assert (await submit(browser, "/", "/logout")).status_code == 303
    assert (await thief.get("/")).status_code == 401
    assert (await other.get("/")).status_code == 200
    # A process that starts later doesn't know which sessions have signed out.
    monkeypatch.setattr(guard, "_ended", {})
    monkeypatch.setattr(guard, "_PROCESS_STARTED", int(guard.time.time()) + 1)
    assert (await thief.get("/")).status_code == 401


def test_ended_sessions_are_forgotten_when_they_would_have_expired(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(guard, "_ended", {})
    rules = guard.AccessRules(TOKEN)
    now = guard.time.time()
    for _ in range(3):
        rules.end_session(rules.new_session())
        rules.end_session("made up")
    assert len(guard._ended) == 3
    monkeypatch.setattr(guard.time, "time", lambda: now + guard.SESSION_SECONDS + 1)
    rules.end_session(rules.new_session())
    assert len(guard._ended) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("root_path", "tools"), ("root_path", "//evil.example"), ("root_path", "/a/../b"),
     ("root_path", "/a?b"), ("root_path", 5), ("trusted_proxies", "127.0.0.1"),
     ("trusted_proxies", ["proxy.example"]), ("trusted_proxies", [5]), ("trusted_proxies", None)],
)  # fmt: skip
def test_invalid_paths_and_proxies_are_refused(client: PolosClient, name: str, value: Any):
    with pytest.raises(InvalidArgumentError, match=rf"{name}: .* given, expected"):
        polos.ui(client, **{name: value})


@pytest.mark.parametrize("prefix", ["//evil.example", "/a/../b", "https://evil.example", "/a b"])
async def test_a_prefix_that_is_no_path_is_refused(client: PolosClient, visit: Any, prefix: str):
    app = polos.ui(client, token=TOKEN, trusted_proxies=["10.0.0.7"])
    browser = await visit(app, address="10.0.0.7")
    answer = await browser.get(f"/?token={TOKEN}", headers={"x-forwarded-prefix": prefix})
    assert answer.status_code == 400
    stranger = await visit(app, address="10.0.0.8")
    answer = await stranger.get(f"/?token={TOKEN}", headers={"x-forwarded-prefix": prefix})
    assert answer.headers["location"] == "/"


async def test_the_token_in_the_address_of_a_form_lets_nobody_in(
    client: PolosClient, schedule: str, visit: Any
):
    browser = await visit(polos.ui(client, token=TOKEN))
    signed_in = await visit(polos.ui(client, token=TOKEN))
    await signed_in.get(f"/?token={TOKEN}")
    secret = secret_in(await signed_in.get(f"/schedules/{schedule}"))
    for path in (f"/schedules/{schedule}/pause", "/logout", "/"):
        answer = await browser.post(f"{path}?token={TOKEN}", data={"secret": secret})
        assert answer.status_code == 401
        assert not [name for name in answer.cookies if name.startswith("polos_session")]
    assert await status_of(client, schedule) == "active"


@pytest.mark.parametrize(
    "path", ["/login/", "/login/x", "/loginx", "/login.html", "/LOGIN", "/static", "/x/static/y"]
)
async def test_only_the_way_in_is_open_without_the_token(
    client: PolosClient, visit: Any, path: str
):
    browser = await visit(polos.ui(client, token=TOKEN))
    assert (await browser.get(path)).status_code == 401
    assert (await browser.post(path)).status_code == 401


@pytest.mark.parametrize("planted", ["x", "x" * 42, "x" * 44, "\u00e9" * 43])
async def test_a_foreign_cookie_is_not_used_for_a_secret(
    client: PolosClient, schedule: str, visit: Any, planted: str
):
    """Another application on the host can set cookies; it would then know the secret."""
    cookie = f"{guard.FORM_COOKIE}={planted}".encode("latin-1")
    known = hmac.new(planted.encode(), b"polos-form", hashlib.sha256).hexdigest()
    browser, page = await visit(polos.ui(client)), f"/schedules/{schedule}"
    seen = await browser.get(page, headers={"cookie": cookie})
    assert secret_in(seen) != known
    assert f"{guard.FORM_COOKIE}=" in seen.headers["set-cookie"]
    browser.cookies.clear()
    answer = await browser.post(f"{page}/pause", data={"secret": known}, headers={"cookie": cookie})
    assert answer.status_code == 403
    assert await status_of(client, schedule) == "active"
