"""Render pages as HTML. Everything is escaped; only the templates' own text is marked safe."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket

from polos._display.cron import cron_text
from polos._polos import __version__
from polos.client import PolosClient
from polos.dashboard import filters as words
from polos.dashboard.safe_repr import as_objects, as_text, clipped
from polos.dashboard.sse import Fragment
from polos.dashboard.views import Page

__all__ = ["STATIC", "Renderer", "static_file"]

HERE = Path(__file__).parent
STATIC = HERE / "static"

_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".svg": "image/svg+xml"}  # fmt: skip


def static_file(name: str) -> tuple[bytes, str] | None:
    """Return one of our own files and its type."""
    file = _files.get(name)
    return None if file is None else (file, _KINDS[name[name.rindex(".") :]])


_files = {
    path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in _KINDS
}
_version = hashlib.sha256(b"".join(_files.values())).hexdigest()[:10]


class _CompiledTemplates(BytecodeCache):
    """Keeps compiled templates in memory, so that each is compiled once per process."""

    def __init__(self) -> None:
        self._code: dict[str, CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._code[bucket.key] = bucket.code


_compiled = _CompiledTemplates()


class Renderer:
    """Renders pages for one client."""

    def __init__(self, client: PolosClient, *, hide_payloads: bool, has_token: bool) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            auto_reload=False,
            bytecode_cache=_compiled,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            duration=words.duration,
            last_name=words.last_name,
            exact=words.exact,
            period=words.period,
            stamp=words.stamp,
            day_and_time=words.day_and_time,
            value=as_text,
            objects=as_objects,
            clipped=clipped,
            cron_text=cron_text,
            fixed=lambda number: f"{number:.2f}",
            percent=lambda part: f"{part:.1%}",
        )
        self._environment.globals.update(
            count=words.count,
            origins=words.ORIGINS,
            version=__version__,
            project=client.project_id,
            database=client.database,
            hide_payloads=hide_payloads,
            has_token=has_token,
            no_time=timedelta(),
        )

    def page(self, page: Page, root: str, *, path: str, **values: Any) -> str:
        """Render a whole page; ``values`` are those of its frame."""
        fragment = self.fragment(page, root, path=path)
        return self._environment.get_template(page.template).render(
            **{**page.values, **_place(root), **values},
            title=page.title,
            path=path,
            revision=fragment.revision,
        )

    def fragment(self, page: Page, root: str, *, path: str) -> Fragment:
        """Render the part of a page that updates itself, without the secret of its forms, because
        many viewers can get it.
        """
        template = self._environment.get_template(page.template)
        values = dict(page.values, **_place(root), title=page.title, path=path, secret="")
        context = template.new_context(values)
        return Fragment(page.title, "".join(template.blocks["live"](context)))

    def notice(self, status: int, title: str, text: str, root: str, **values: Any) -> str:
        """Render a page with one message."""
        return self._environment.get_template("notice.html").render(
            status=status, title=title, text=text, path="", **_place(root), **values
        )


def _place(root: str) -> dict[str, Any]:
    """Return a function that builds addresses below the dashboard's mount point."""

    def url(path: str, **params: Any) -> str:
        given = {name: _text(value) for name, value in params.items() if value is not None}
        address = root + "/".join(quote(part, safe="") for part in path.split("/"))
        return f"{address}?{urlencode(given)}" if given else address

    def static(name: str) -> str:
        return f"{root}/static/{name}?v={_version}"

    return {"url": url, "static": static, "root": root}


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
