"""Fingerprints of code: whether two workers execute the same code for a workflow."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["fingerprint"]


def fingerprint(fn: Any, version: str | None = None) -> str:
    """Return a short text without blanks that is the same for the same code of ``fn``.

    ``version``, if given, decides alone. Otherwise the fingerprint covers the code of the function
    and the source files of all imported modules of its top-level package, because a helper in
    another module may change which steps are reached. Code that differs only in a comment counts as
    different, which costs no more than one more attempt to continue a held run.
    """
    digest = hashlib.sha256()
    if version is not None:
        digest.update(b"version\0" + version.encode())
        return "v-" + digest.hexdigest()[:16]
    code = getattr(fn, "__code__", None)
    if isinstance(code, CodeType):
        _add_code(digest, code)
    for path in _sources(getattr(fn, "__module__", None)):
        try:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        except OSError:  # deleted since, or in an archive
            digest.update(path.name.encode())
    return "c-" + digest.hexdigest()[:16]


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr((code.co_name, code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif not isinstance(constant, frozenset):  # its order differs from process to process
            digest.update(repr(constant).encode())


def _sources(module: str | None) -> Iterable[Path]:
    """Return the source files of the module and of its top-level package, in order."""
    if not module:
        return []
    top = module.partition(".")[0]
    found = set()
    for name, loaded in list(sys.modules.items()):
        if name == top or name.startswith(f"{top}."):
            file = getattr(loaded, "__file__", None)
            if isinstance(file, str) and file.endswith(".py"):
                found.add(Path(file))
    return sorted(found)
