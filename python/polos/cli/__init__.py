"""``polos``: the command line. What went wrong is said in one sentence, without our traceback."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from polos._describe import printable, shown
from polos.cli._say import NOT_FOUND, TYPED_WRONG, close_pipe, fail, finish, prepare
from polos.exceptions import InvalidArgumentError, InvalidScheduleError, PolosError

__all__ = ["main"]


def main() -> NoReturn:
    """What the ``polos`` command calls."""
    prepare()
    try:
        code = _command()
        finish()
    except (InvalidArgumentError, InvalidScheduleError) as error:
        fail(error, TYPED_WRONG)
    except PolosError as error:
        fail(error, NOT_FOUND if isinstance(error, LookupError) else 1)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        close_pipe()
    sys.exit(code)


def _command() -> int:
    """What was typed, done; gives the exit code."""
    for argument in sys.argv[1:]:
        if printable(argument) != argument:
            fail(f"{shown(argument)} isn't text in the encoding of this system", TYPED_WRONG)
    if sys.argv[1:] == ["--version"]:  # asked by scripts, and known without typer
        from polos.cli._version import version

        version()
        return 0
    from polos.cli._app import call

    return call()
