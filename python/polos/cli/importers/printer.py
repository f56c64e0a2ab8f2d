"""Print imported schedules as a Python module that runs."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from polos.cli.importers.model import Command, Entry, Function, Imported, Refusal, Task
from polos.cli.ui.console import plain

__all__ = ["as_json", "as_python", "literal"]

_WIDTH = 100


def as_python(found: Imported) -> str:
    """Return the module. Each entry's comment names what changes."""
    groups = _groups(found.converted)
    many = [entry for group in groups if _is_many(group) for entry in group]
    body = [_handler(group) for group in groups]
    if many:
        body.append(_creation(many))
    helpers = _helpers(found.converted)
    head = [_docstring(found), *filter(None, [_imports(found, bool(many))])]
    blocks = ["\n\n".join(head), *helpers, *body]
    if found.refused:
        blocks.append(_refusals(found.refused))
    return "\n\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _docstring(found: Imported) -> str:
    lines = [f"Schedules of `{plain(found.source)}`."]
    lines += ["", f"Converted by `polos import {found.command}`. Start them with `polos run FILE`."]
    if found.differences:
        lines += ["", "What differs for all of them:", ""]
    for difference in found.differences:
        lines += _wrapped(difference, "- ", "  ")
    text = "\n".join(lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}\n"""'


# --- groups ----------------------------------------------------------------------------------


def _groups(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the entries by workflow, in order."""
    by_workflow: dict[str, list[Entry]] = {}
    for entry in entries:
        by_workflow.setdefault(entry.workflow, []).append(entry)
    return list(by_workflow.values())


def _is_many(group: list[Entry]) -> bool:
    """Whether the schedules are created through the API: several of one workflow, or paused."""
    return len(group) > 1 or group[0].is_paused


def _imports(found: Imported, has_many: bool) -> str:
    entries = found.converted
    if not entries:
        return ""
    targets = [type(entry.target) for entry in entries]
    names = {n for e in entries for n in _names(e.options) | _names(vars(e.target))}
    lines = []
    if Function in targets:
        lines += ["import asyncio", "import inspect"]
    if Command in targets:
        lines += ["import os", "import subprocess"]
    if names - {"ZoneInfo"}:
        lines.append(f"from datetime import {', '.join(sorted(names - {'ZoneInfo'}))}")
    if "ZoneInfo" in names:
        lines.append("from zoneinfo import ZoneInfo")
    if lines:
        lines.append("")
    if Task in targets:
        module, name = found.app or ("celery", "current_app")
        lines.append(f"from {module} import {name} as celery_app")
    ours = ["PolosClient", "schedules"] if has_many else []
    return "\n".join([*lines, f"from polos import {', '.join([*ours, 'workflow'])}"])


def _names(value: Any) -> set[str]:
    """Return the names that the literals of a value need."""
    if isinstance(value, dict):
        return {name for pair in value.items() for item in pair for name in _names(item)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return {name for item in value for name in _names(item)}
    if isinstance(value, datetime):
        return {"datetime"} | ({"ZoneInfo"} if isinstance(value.tzinfo, ZoneInfo) else
                               {"timezone", "timedelta"} if value.utcoffset() else
                               {"timezone"} if value.tzinfo else set())  # fmt: skip
    if isinstance(value, date):
        return {"date"}
    return {"timedelta"} if isinstance(value, timedelta) else set()


# --- what runs -------------------------------------------------------------------------------

_SHELL = '''\
def run_command(
    command: str,
    shell: str = "/bin/sh",
    stdin: str = "",
    variables: dict[str, str] | None = None,
) -> None:
    """Run a command as cron does. An exit code other than 0 makes the run fail."""
    environment = {**os.environ, **(variables or {})}
    subprocess.run([shell, "-c", command], input=stdin, text=True, env=environment, check=True)
'''

_CALL = '''\
async def run_function(function, *args, **kwargs):
    """Await a coroutine function; call any other function in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
'''


def _helpers(entries: list[Entry]) -> list[str]:
    targets = [type(entry.target) for entry in entries]
    return [text for kind, text in ((Command, _SHELL), (Function, _CALL)) if kind in targets]


def _handler(group: list[Entry]) -> str:
    """Return the decorated function of a workflow."""
    first = group[0]
    name = _identifier(first.workflow)
    lines = []
    if _is_many(group):
        lines += [f"@workflow(id={literal(first.workflow)}, schedule=True)"]
    else:
        lines += [*_comment(first)]
        lines += ["@workflow(", f"    id={literal(first.workflow)},", "    schedule={"]
        lines += [f"        {literal(k)}: {literal(v)}," for k, v in first.options.items()]
        lines += ["    },", ")"]
    return "\n".join([*lines, *_function(name, first.target, from_input=_is_many(group))])


def _function(name: str, target: Command | Function | Task, *, from_input: bool) -> list[str]:
    ctx = "ctx" if from_input else ""
    if isinstance(target, Command):
        return [f"def {name}({ctx}) -> None:", *_called("run_command", _command_words(target))]
    if isinstance(target, Task):
        return _send(name, target, from_input=from_input)
    if from_input:
        words = ['*ctx.input["args"]', '**ctx.input["kwargs"]']
    else:
        words = [*map(literal, target.args), *_keywords(target.kwargs)]
    return [
        f"async def {name}({ctx}) -> None:",
        f"    import {target.module}",
        "",
        *_called("await run_function", [f"{target.module}.{target.name}", *words]),
    ]


def _called(function: str, words: list[str]) -> list[str]:
    """Return a call, with a line for each argument if it is long."""
    line = f"    {function}({', '.join(words)})"
    if len(line) <= _WIDTH:
        return [line]
    return [f"    {function}(", *(f"        {word}," for word in words), "    )"]


def _command_words(target: Command) -> list[str]:
    words = [literal(target.text)]
    if target.shell != "/bin/sh":
        words.append(f"shell={literal(target.shell)}")
    if target.stdin is not None:
        words.append(f"stdin={literal(target.stdin)}")
    if target.variables:
        words.append(f"variables={literal(target.variables)}")
    return words


def _send(name: str, target: Task, *, from_input: bool) -> list[str]:
    if from_input:
        words = [literal(target.name), "**ctx.input"]
        return [f"def {name}(ctx) -> None:", *_called("celery_app.send_task", words)]
    words = [literal(target.name)]
    words += [f"args={literal(list(target.args))}"] * bool(target.args)
    words += [f"kwargs={literal(target.kwargs)}"] * bool(target.kwargs)
    words += _keywords(target.options)
    return [f"def {name}() -> None:", *_called("celery_app.send_task", words)]


def _keywords(values: dict[str, Any]) -> list[str]:
    """Return keyword arguments; names that Python would not read go into a dict."""
    plain_names = {k: v for k, v in values.items() if k.isidentifier() and not keyword.iskeyword(k)}
    rest = {k: v for k, v in values.items() if k not in plain_names}
    words = [f"{name}={literal(value)}" for name, value in plain_names.items()]
    return [*words, f"**{literal(rest)}"] if rest else words


# --- schedules that are created through the API ------------------------------------------------


def _creation(entries: list[Entry]) -> str:
    lines = ["SCHEDULES = ["]
    for entry in entries:
        lines += [f"    {line}" for line in _comment(entry)]
        lines.append("    {")
        options = {"workflow": entry.workflow, "key": entry.name, **entry.options}
        if isinstance(entry.target, (Function, Task)):
            data: dict[str, Any] = {
                "args": list(entry.target.args),
                "kwargs": entry.target.kwargs,
            }
            if isinstance(entry.target, Task):
                data |= entry.target.options
            options["input"] = data
        lines += [f"        {literal(k)}: {literal(v)}," for k, v in options.items()]
        lines.append("    },")
    lines += ["]", "", "", 'if __name__ == "__main__":', "    with PolosClient() as client:",
              "        ids = schedules.sync.create_many(client, SCHEDULES)"]  # fmt: skip
    paused = [index for index, entry in enumerate(entries) if entry.is_paused]
    if paused:
        lines += [f"        for index in {paused!r}:  # paused there",
                  "            schedules.sync.pause(client, ids[index])"]  # fmt: skip
    return "\n".join(lines)


# --- remarks ---------------------------------------------------------------------------------


def _comment(entry: Entry) -> list[str]:
    lines = _wrapped(f"{entry.name}: {entry.source}")
    for difference in entry.differences:
        lines += _wrapped(difference, "# - ", "#   ")
    return lines


def _refusals(refused: list[Refusal]) -> str:
    lines = ["# Not converted:"]
    for refusal in refused:
        lines += _wrapped(f"{refusal.name}: {refusal.source}", "# - ", "#   ")
        lines += _wrapped(f"reason: {refusal.reason}", "#   ", "#     ")
        lines += _wrapped(f"do: {refusal.remedy}", "#   ", "#     ")
    return "\n".join(lines)


def _wrapped(text: str, first: str = "# ", later: str = "#   ") -> list[str]:
    return textwrap.wrap(
        plain(text), _WIDTH - 4, initial_indent=first, subsequent_indent=later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


# --- literals --------------------------------------------------------------------------------


def literal(value: Any) -> str:
    """Return Python that evaluates to ``value``. Raises ``TypeError`` for other objects."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or type(value) in (bool, int, bytes):
        return repr(value)
    if type(value) is float:
        return repr(value) if value == value and abs(value) != float("inf") else f"float('{value}')"
    if type(value) is dict:
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if type(value) is list:
        return "[" + ", ".join(map(literal, value)) + "]"
    if type(value) is tuple:
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    if type(value) in (set, frozenset):
        items = "{" + ", ".join(sorted(map(literal, value))) + "}" if value else "set()"
        return items if type(value) is set else f"frozenset({items})"
    return _time_literal(value)


def _time_literal(value: Any) -> str:
    if isinstance(value, timedelta):
        parts = [("days", value.days), ("seconds", value.seconds)]
        parts.append(("microseconds", value.microseconds))
        return f"timedelta({', '.join(f'{name}={count}' for name, count in parts if count)})"
    if isinstance(value, datetime):
        zone = value.tzinfo
        if isinstance(zone, ZoneInfo):
            suffix = f", tzinfo=ZoneInfo({_quoted(zone.key)})"
        elif zone is not None:
            offset = value.utcoffset()
            inner = literal(offset) if offset else ""
            suffix = f", tzinfo=timezone({inner})" if inner else ", tzinfo=timezone.utc"
        else:
            suffix = ""
        numbers = [value.year, value.month, value.day, value.hour, value.minute]
        numbers += [value.second, value.microsecond]
        while len(numbers) > 3 and not numbers[-1]:
            numbers.pop()
        fold = ", fold=1" if value.fold else ""
        return f"datetime({', '.join(map(str, numbers))}{suffix}{fold})"
    if isinstance(value, date):
        return f"date({value.year}, {value.month}, {value.day})"
    raise TypeError(f"an object of type `{type(value).__name__}`")


def _quoted(text: str) -> str:
    """Return a literal in double quotes, as formatters write it."""
    inner = repr(f"'{text}")[2:-1]  # the quote in front makes repr choose double ones
    if '"' in text:
        inner = repr(text)[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{inner}"'


def _identifier(name: str) -> str:
    """Return a name for a function."""
    text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "job"
    if text[0].isdigit() or keyword.iskeyword(text) or text in _RESERVED:
        text = f"job_{text}"
    return text


_RESERVED = {
    "asyncio",
    "celery_app",
    "date",
    "datetime",
    "ids",
    "inspect",
    "os",
    "run_command",
    "run_function",
    "schedules",
    "subprocess",
    "timedelta",
    "timezone",
    "workflow",
}


# --- json ------------------------------------------------------------------------------------


def as_json(found: Imported) -> list[dict[str, Any]]:
    """Return an object per entry, in the order of the source."""
    return [
        _refusal_json(entry) if isinstance(entry, Refusal) else _entry_json(entry, found)
        for entry in found.entries
    ]


def _entry_json(entry: Entry, found: Imported) -> dict[str, Any]:
    from polos.cli.ui.json import value_json

    options = {
        name: value.total_seconds() if isinstance(value, timedelta) else value_json(value)
        for name, value in entry.options.items()
    }
    kind = type(entry.target).__name__.lower()
    return {
        "name": entry.name,
        "source": entry.source,
        "converted": True,
        "workflow": entry.workflow,
        "options": options,
        "target": {"kind": kind, **value_json(vars(entry.target))},
        "paused": entry.is_paused,
        "differences": [*entry.differences, *found.differences],
        "reason": None,
        "remedy": None,
    }


def _refusal_json(refusal: Refusal) -> dict[str, Any]:
    return {
        "name": refusal.name,
        "source": refusal.source,
        "converted": False,
        "reason": refusal.reason,
        "remedy": refusal.remedy,
    }
