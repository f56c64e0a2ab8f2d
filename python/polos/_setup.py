"""Connect core and package once, at import: zone data for the core, checks for decorators."""

from __future__ import annotations

import os.path
import zoneinfo
from importlib.util import find_spec

from polos import _polos
from polos.schedules import check_declaration
from polos.workflow import set_trigger_check


def _zone_folders() -> list[str]:
    """Return the folders that ``zoneinfo`` searches, in its order, so that slots and the datetimes
    of payloads agree.
    """
    folders = list(zoneinfo.TZPATH)
    package = find_spec("tzdata")
    if package is not None and package.submodule_search_locations:
        folders += [os.path.join(place, "zoneinfo") for place in package.submodule_search_locations]
    return folders


_polos.configure_tzdb(_zone_folders())
set_trigger_check(check_declaration)
