"""Visitors of the dashboard: requests to its application, without a socket in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from dashboard_forms import NAVIGATION

Visit = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def visit() -> AsyncIterator[Visit]:
    """``await visit(app)``: somebody with a browser, by default on this machine."""
    async with AsyncExitStack() as visitors:

        async def visitor(
            app: Any, *, base: str = "http://localhost:6765", address: str = "127.0.0.1"
        ) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app=app, client=(address, 50_000))
            return await visitors.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url=base, headers=NAVIGATION)
            )

        yield visitor
