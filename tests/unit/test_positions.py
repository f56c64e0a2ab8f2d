"""An object that could not be rebuilt is an error where an annotation requires a type."""

from __future__ import annotations

import sys
import typing
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, NewType

import pytest
from pydantic import BaseModel

from polos import StoredValue
from polos._codec.codec import decode
from polos._codec.required_types import misplaced

ROW = b'{"$polos":"dataclass","type":"gone:Order","shape":"0","v":{"id":17}}'


class Order(BaseModel):
    id: int


@dataclass
class Parcel:
    order: Order
    note: Any


class Pair(NamedTuple):
    first: Order
    second: Any


class Basket(BaseModel):
    orders: list[Order]
    other: Any = None


@dataclass
class Unresolvable:
    order: NotThere  # type: ignore[name-defined]  # noqa: F821


OrderId = NewType("OrderId", Order)


@pytest.fixture
def stored() -> StoredValue:
    value = decode(ROW)
    assert type(value) is StoredValue
    return value


def test_what_requires_a_type(stored: StoredValue) -> None:
    required: list[tuple[Any, Any]] = [
        (stored, Order),
        (stored, Annotated[Order, "of the shop"]),
        (stored, Order | None),
        (stored, typing.Optional[Order]),  # noqa: UP045 -- spelled otherwise on purpose
        (stored, OrderId),
        (stored, list[Order]),
        ([stored], list[Order]),
        ([[stored]], list[list[Order]]),
        ((1, stored), tuple[int, Order]),
        ((stored, stored), tuple[Order, ...]),
        ({"a": stored}, dict[str, Order]),
        (deque([stored]), deque[Order]),
        (Parcel(stored, None), Parcel),  # type: ignore[arg-type]
        ([Parcel(stored, None)], list[Parcel]),  # type: ignore[arg-type]
        (Pair(stored, None), Pair),  # type: ignore[arg-type]
        (Basket.model_construct(orders=[stored]), Basket),
    ]
    for value, hint in required:
        assert misplaced(value, hint) is stored, hint


def test_what_requires_nothing(stored: StoredValue) -> None:
    free: list[tuple[Any, Any]] = [
        (stored, None),
        (stored, Any),
        (stored, object),
        (stored, Annotated[Any, "whatever"]),
        (stored, Order | Any),
        ([stored], list),
        ([stored], list[Any]),
        ({"a": stored}, dict[str, Any]),
        ((stored, 1), tuple[Any, int]),
        (Parcel(Order(id=1), stored), Parcel),
        (Pair(Order(id=1), stored), Pair),
        (Basket(orders=[], other=stored), Basket),
        (Unresolvable(stored), Unresolvable),
        (None, Order | None),
    ]
    for value, hint in free:
        assert misplaced(value, hint) is None, hint


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is of Python 3.12")
def test_an_alias_stands_for_what_it_names(stored: StoredValue) -> None:
    alias = typing.TypeAliasType("alias", Order)  # type: ignore[attr-defined,unused-ignore]
    assert misplaced(stored, alias) is stored
