"""Read a crontab as Vixie cron and cronie do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from polos._validate.formatting import shown
from polos.cli.importers.model import Command, Entry, Imported, Names, Refusal, check
from polos.exceptions import PolosError

__all__ = ["read_crontab"]

_VARIABLE = re.compile(r"""\s*(?:"(\w+)"|'(\w+)'|(\w+))\s*=\s*(.*?)\s*$""")
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# In front of the program that a line is about.
_WRAPPERS = {"flock", "nice", "ionice", "chronic", "timeout", "env", "sudo", "cd", "test", "["}
# Variables that tell cron what to do. The others are for the command.
_OF_CRON = {"MAILTO", "MAILFROM", "CRON_TZ", "SHELL", "RANDOM_DELAY", "CONTENT_TYPE",
            "CONTENT_TRANSFER_ENCODING", "NO_MAIL_OUTPUT"}  # fmt: skip

_ALL = [
    'overlap and misfires: as in cron, runs may overlap (`overlap="allow"`), and a time at which '
    'no worker runs is lost (`catch_up="none"`); the defaults, `"buffer_one"` and '
    '`"latest"`, wait for the previous run and make up for the newest missed time',
    "clock changes: the rules of Vixie cron as Debian ships it; cronie has the same ones",
    "crashes: a run whose worker dies starts again on another one, up to 5 times "
    "(`max_interruptions`); cron starts each time once",
    "environment: a command gets the worker's user, folder, and variables, and those of the "
    "crontab; cron starts it in the user's home with PATH=/usr/bin:/bin",
    "output: cron mails what a command prints; here it goes to the worker's output, and an exit "
    "code other than 0 makes the run fail (`polos runs list --status failed`, `on_failure`)",
]


@dataclass
class _State:
    """The variables at a line; a crontab sets them for the lines below."""

    zone: str
    variables: dict[str, str] = field(default_factory=dict)


def read_crontab(text: str, source: str, zone: str, *, has_users: bool) -> Imported:
    """Convert the lines of a crontab. ``has_users``: the sixth column names a user."""
    found = Imported("crontab", source, differences=list(_ALL))
    state, names = _State(zone), Names()
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        place = f"line {number}"
        assigned = _VARIABLE.match(line)
        if assigned:
            name = assigned[1] or assigned[2] or assigned[3]
            state.variables[name] = _unquoted(assigned[4])
        else:
            found.entries.append(_entry(place, line, state, names, has_users=has_users))
    if not has_users and _seems_to_have_users(found.converted):
        found.remarks.append(
            "commands begin with a user's name, as in /etc/crontab; pass `--system`, or the name "
            "is taken for the command"
        )
    return found


def _entry(
    place: str, line: str, state: _State, names: Names, *, has_users: bool
) -> Entry | Refusal:
    schedule, rest = _split(line)
    user = None
    if has_users:
        user, *words = rest.split(None, 1) or [""]
        rest = "".join(words)
    if schedule.startswith("@"):
        nickname = schedule.lower()
        if nickname == "@reboot":
            return Refusal(
                place, line, "polos has no trigger for the start of a machine or worker",
                "call it where your program starts, or keep it in systemd or cron",
            )  # fmt: skip
        if nickname not in _NICKNAMES:
            allowed = ", ".join(f"`{name}`" for name in _NICKNAMES)
            return Refusal(
                place, line, f"{shown(schedule)} isn't a nickname that polos knows",
                f"use one of {allowed}, or five fields",
            )  # fmt: skip
        cron = _NICKNAMES[nickname]
    else:
        cron = schedule.removeprefix("-")
    if not rest:
        return Refusal(
            place, line, "it has no command",
            "expected five fields" + ", a user" * has_users + ", and a command",
        )  # fmt: skip
    zone = state.variables.get("CRON_TZ") or state.zone
    options: dict[str, Any] = {
        "cron": cron,
        "timezone": zone,
        "overlap": "allow",
        "catch_up": "none",
    }
    try:
        _delay(options, state)
        check(options)
    except (PolosError, ValueError) as error:
        return Refusal(place, line, str(error), _remedy(cron))
    command, stdin = _percent(rest)
    variables = {k: v for k, v in state.variables.items() if k not in _OF_CRON}
    shell = state.variables.get("SHELL", "/bin/sh")
    return Entry(
        place,
        schedule,
        Command(command, shell, stdin, variables),
        names.unique(_program(command)),
        options,
        _differences(schedule, command, stdin, user, state),
    )


def _split(line: str) -> tuple[str, str]:
    """Return the schedule and the rest."""
    count = 1 if line.startswith("@") else 5
    parts = line.split(None, count)
    return " ".join(parts[:count]), parts[count].strip() if len(parts) > count else ""


def _delay(options: dict[str, Any], state: _State) -> None:
    """Cronie's RANDOM_DELAY, in minutes."""
    text = state.variables.get("RANDOM_DELAY")
    if text is None:
        return
    if not text.isdigit():
        raise ValueError(f"RANDOM_DELAY is {shown(text)}, expected a number of minutes")
    options["jitter"] = timedelta(minutes=int(text))


def _remedy(cron: str) -> str:
    if "~" in cron:
        return "replace the random range by one of its values, or add `jitter`"
    return "correct the line; `polos explain` checks an expression"


def _percent(rest: str) -> tuple[str, str | None]:
    """Apply cron's rule for `%`: a line end, and what follows the first one is stdin."""
    parts = re.split(r"(?<!\\)%", rest)
    command, *lines = (part.replace("\\%", "%") for part in parts)
    return command.rstrip(), "\n".join(lines) + "\n" if lines else None


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _program(command: str) -> str:
    """Return a name for the command: its program, without folders and suffix."""
    for part in re.split(r"&&|\|\||;", command):
        words = [word for word in part.split() if not re.match(r"-|\w+=", word)]
        while words and words[0].rpartition("/")[2] in _WRAPPERS:
            wrapper = words.pop(0).rpartition("/")[2]
            if wrapper in ("flock", "timeout", "cd", "test", "["):
                words = words[1:] if wrapper in ("flock", "timeout") else []
        if words:
            name = words[0].rpartition("/")[2]
            if name.startswith(("python", "bash", "sh", "perl", "php", "node", "ruby")):
                name = next((word.rpartition("/")[2] for word in words[1:]), name)
            return name.partition(".")[0] or name
    return "job"


def _differences(
    schedule: str, command: str, stdin: str | None, user: str | None, state: _State
) -> list[str]:
    found = []
    if user is not None:
        found.append(
            f"user: cron runs it as `{user}`, polos as the worker's user; start the worker as "
            f"`{user}`, or write `sudo -u {user}` before the command"
        )
    if "MAILTO" in state.variables:
        mail = state.variables["MAILTO"]
        found.append(
            f"MAILTO: cron mails its output to `{mail}`; to do so here, send it from `on_failure` "
            f"or from the function" if mail else
            "MAILTO is empty: cron discards its output, here it goes to the worker's output"
        )  # fmt: skip
    if "CRON_TZ" in state.variables:
        found.append(
            f"zone: CRON_TZ={state.variables['CRON_TZ']}, as cronie applies it; Debian's cron "
            f"ignores it, and uses {state.zone}"
        )
    elif "TZ" in state.variables:
        found.append(
            f"zone: TZ={state.variables['TZ']} is for the command only, as in cron; the times are "
            f"in {state.zone}"
        )
    if "RANDOM_DELAY" in state.variables:
        found.append(
            "delay: cronie delays all jobs of one start of the daemon alike; `jitter` delays each "
            "time by its own amount"
        )
    if stdin is not None:
        found.append("%: the text after the first one is passed to the command's stdin, as in cron")
    if re.search(r"\bflock\s+(-\w+\s+)*-\w*n", command):
        found.append('flock: `"overlap": "skip"` does what `flock -n` does, on all machines')
    if schedule.startswith("-"):
        found.append("the `-` in front, which keeps cron from logging, has no effect here")
    return found


def _seems_to_have_users(entries: list[Entry]) -> bool:
    """Whether a command begins with the name of an account that is no program."""
    commands = [entry.target.text for entry in entries if isinstance(entry.target, Command)]
    return any(re.match(r"(root|www-data|nobody|daemon|postgres)\s", text) for text in commands)
