"""The placeholder for a stored value whose class polos does not rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polos._validate.formatting import printable, shown

__all__ = ["StoredValue"]


class StoredValue:
    """A stored object as plain data: the name of its type, and its content.

    polos rebuilds only classes that the reader's annotation mentions, that were registered (see
    :func:`polos.register_types`), or that this process has stored itself. It reads any other object
    as a ``StoredValue``. A ``StoredValue`` can be stored again, unchanged.
    """

    __slots__ = ("_parts", "kind", "type_name")

    kind: str
    """``"model"``, ``"dataclass"``, ``"namedtuple"``, ``"enum"``, ``"flag"`` or ``"url"``."""

    type_name: str
    """The module and name of the class, for example ``"app:Order"``."""

    def __init__(self, kind: str, type_name: str, parts: Mapping[str, Any]) -> None:
        self.kind = kind
        self.type_name = type_name
        self._parts = dict(parts)

    @property
    def data(self) -> Any:
        """The fields by name as a dict, the name of an enum's member, the number of a flag, or the
        text of a URL.
        """
        value = self._parts.get("v")
        if not isinstance(value, dict):
            return value
        return {**value, **(self._parts.get("extra") or {}), **(self._parts.get("more") or {})}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        text = f"a `StoredValue` of type {shown(self.type_name)} has no attribute {shown(name)}"
        if isinstance(self.data, dict) and name in self.data:
            text += f"; it is in `.data[{name!r}]`"
        raise AttributeError(
            f"{text}; to get the object itself, name its class in the annotation of what reads "
            f"it, or call `polos.register_types` with it"
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is not StoredValue:
            return NotImplemented
        mine, theirs = (self.kind, self.type_name), (other.kind, other.type_name)
        return mine == theirs and bool(self._parts == other._parts)

    def __hash__(self) -> int:
        value = self._parts.get("v")
        plain = value if isinstance(value, dict) else {"": value}
        known = {(k, v) for k, v in plain.items() if type(v) in (str, int, bool, type(None))}
        return hash((self.kind, self.type_name, frozenset(known)))

    def __repr__(self) -> str:
        name = printable(self.type_name.rpartition(":")[2].replace("<locals>.", ""))
        if self.kind == "enum":
            return f"{name}.{self.data}"
        if not isinstance(self.data, dict):
            return f"{name}({self.data!r})"
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in self.data.items())})"
