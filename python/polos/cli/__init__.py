"""``polos``: the command line. Errors are one sentence, without a traceback of polos."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from polos._validate.formatting import printable, shown
from polos.cli.ui.console import NOT_FOUND, TYPED_WRONG, abandon, close_pipe, fail, finish, prepare
from polos.exceptions import InvalidArgumentError, InvalidScheduleError, PolosError

__all__ = ["main"]


def main() -> NoReturn:
    """Run the ``polos`` command; the entry point of the package."""
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
    except OSError as error:  # a full disk behind stdout, for example
        abandon()
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    sys.exit(code)


def _command() -> int:
    """Execute the command line and return the exit code."""
    for argument in sys.argv[1:]:
        if printable(argument) != argument:
            fail(f"{shown(argument)} isn't text in the encoding of this system", TYPED_WRONG)
    if sys.argv[1:] == ["--version"]:  # fast for scripts: needs no typer
        from polos.cli.commands.version import version

        version()
        return 0
    from polos.cli.typer_app import call

    return call()
