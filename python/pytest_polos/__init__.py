"""The plugin of pytest: virtual time as the fixture ``polos_clock``.

    @pytest.mark.polos_clock("2026-03-07T12:00-05:00")
    async def test_nightly(polos_clock):
        await polos_clock.advance(days=3)
        assert len(await polos_clock.runs(workflow="nightly")) == 3

It is loaded in every run of pytest in an environment that has polos, so it is a package of its own:
nothing of polos is imported before a test asks for a fixture.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from polos.testing import BlockingVirtualTime, VirtualTime
    from polos.worker import WorkerOptions

__all__ = ["polos_clock", "polos_registry"]

_START = "2026-01-01T00:00:00+00:00"

_MARKER = (
    "polos_clock(start, **options): when the clock of the fixture `polos_clock` begins (an aware "
    "datetime or its ISO text; 2026-01-01T00:00Z without it), and options of `polos.Worker`"
)


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def polos_registry() -> Iterator[None]:
    """Workflows that the test registers are forgotten when it ends; those that its modules have
    registered are there.
    """
    from polos.testing import isolated_registry

    with isolated_registry(keep=True):
        yield


@pytest.fixture
def polos_clock(
    request: pytest.FixtureRequest, polos_registry: None
) -> Iterator[VirtualTime | BlockingVirtualTime]:
    """Virtual time: a ``polos.testing.VirtualTime`` for an async test (of pytest-asyncio or of
    anyio's plugin), for others a ``polos.testing.BlockingVirtualTime``.

    The worker starts when the clock is first used, with the workflows that are registered then.
    The marker ``polos_clock`` says when the clock begins.
    """
    from polos.testing._blocking import BlockingVirtualTime
    from polos.testing._failure_report import ended
    from polos.testing._virtual_time import VirtualTime, parsed

    node = request.node
    start, options = _asked_for(node)
    project_id = options.pop("project_id", "default")
    time = VirtualTime(
        parsed("start", start), project_id=project_id, options=cast("WorkerOptions", options)
    )
    test = node.obj
    given: VirtualTime | BlockingVirtualTime

    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def awaited(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                await test(*args, **kwargs)
            except BaseException as error:
                await ended(time, error)
                raise
            await ended(time, None)

        given, node.obj = time, awaited
    else:
        blocking = BlockingVirtualTime(time)

        @functools.wraps(test)
        def called(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                test(*args, **kwargs)
            except BaseException as error:
                blocking._end(error)
                raise
            blocking._end(None)

        given, node.obj = blocking, called
    try:
        yield given
    finally:
        node.obj = test
        # The test itself was not called, because another fixture failed.
        given._abandon()


def _asked_for(node: Any) -> tuple[Any, dict[str, Any]]:
    marker = node.get_closest_marker("polos_clock")
    if marker is None:
        return _START, {}
    if len(marker.args) > 1:
        raise pytest.UsageError(
            f"{node.nodeid}: the marker `polos_clock` takes one start, "
            f"{len(marker.args)} arguments were given"
        )
    options = dict(marker.kwargs)
    start = marker.args[0] if marker.args else options.pop("start", _START)
    return start, options
