"""Payloads annotated with ``typing.TypedDict``, which pydantic refuses before Python 3.12."""

from __future__ import annotations

from typing import TypedDict

import pytest

from polos import InvalidArgumentError, PolosClient, Worker, WorkflowContext, workflow


class Address(TypedDict):
    city: str


class Person(TypedDict, total=False):
    homes: list[Address]
    work: Address | None
    age: int


async def test_typed_dicts_are_checked_at_every_depth(client: PolosClient) -> None:
    @workflow
    async def move(ctx: WorkflowContext, payload: Person | None) -> Person | None:
        return payload

    oslo: Address = {"city": "Oslo"}
    async with Worker(client, app="tests"):
        assert await move.run(client, {"homes": [oslo], "work": None}) == {
            "homes": [oslo],
            "work": None,
        }
        assert await move.run(client, {}) == {}
        assert await move.run(client) is None
        with pytest.raises(InvalidArgumentError, match=r"homes.*city"):
            await move.invoke(client, {"homes": [{"town": "Oslo"}]})  # type: ignore[list-item]
        with pytest.raises(InvalidArgumentError, match="age"):
            await move.invoke(client, {"age": "old"})  # type: ignore[typeddict-item]
