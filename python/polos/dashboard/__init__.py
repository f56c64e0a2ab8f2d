"""The dashboard: an ASGI application that shows schedules and runs, and can change them.

:func:`polos.ui` creates one to mount; :func:`serve` serves one on its own. It needs the packages of
the extra ``polos[ui]`` and is imported only when it is used.
"""

from polos.exceptions import MissingExtraError

try:
    import jinja2 as _jinja2  # noqa: F401
    import starlette as _starlette  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"the dashboard needs the package `{error.name}`; install what it uses: "
        f"pip install 'polos[ui]'",
        name=error.name,
    ) from None

from polos.dashboard.app import Dashboard
from polos.dashboard.server import serve

__all__ = ["Dashboard", "serve"]
