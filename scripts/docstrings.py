"""Makes our docstrings Markdown where they are shown: roles become links, each ``:param`` a line.

An extension of Griffe, which reads the sources for the site.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")
_PARAM = re.compile(r"(?<=\S) +(?=:param \w+:)")


class Markdown(griffe.Extension):
    """Before docstrings are parsed: in them, a line that begins with a colon is a field."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """One class, function, attribute or module."""
        if obj.docstring is not None:
            text = _ROLE.sub(_link, obj.docstring.value)
            obj.docstring.value = _fields_last(_PARAM.sub("\n", text))


def _fields_last(text: str) -> str:
    """Whatever stands behind the parameters would be taken for the end of the last one."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(sorted(paragraphs, key=lambda each: each.lstrip().startswith(":param")))


def _link(match: re.Match[str]) -> str:
    """A reference that is a link where its page exists, and code otherwise."""
    name = match.group(1)
    path = name if name.startswith("polos.") else f"polos.{name}"
    return f'<autoref identifier="{path}" optional>`{name.removeprefix("polos.")}`</autoref>'
