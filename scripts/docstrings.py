"""Converts docstrings to Markdown for the site: roles become links, each ``:param`` a line.

An extension of Griffe, which reads the sources for the site.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")
_PARAM = re.compile(r"(?<=\S) +(?=:param \w+:)")


class Markdown(griffe.Extension):
    """Converts docstrings before they are parsed: the parser treats `:param` lines as fields."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of a class, function, attribute, or module."""
        if obj.docstring is not None:
            text = _ROLE.sub(_link, obj.docstring.value)
            obj.docstring.value = _fields_last(_PARAM.sub("\n", text))


def _fields_last(text: str) -> str:
    """Move the parameters to the end; a text after them would belong to the last one."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(sorted(paragraphs, key=lambda each: each.lstrip().startswith(":param")))


def _link(match: re.Match[str]) -> str:
    """Return a reference as a link if its page exists, otherwise as code."""
    name = match.group(1)
    path = name if name.startswith("polos.") else f"polos.{name}"
    return f'<autoref identifier="{path}" optional>`{name.removeprefix("polos.")}`</autoref>'
