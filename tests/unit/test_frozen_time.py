"""Tools that replace ``datetime`` during a test leave nothing behind in polos."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import polos

PACKAGE = Path(polos.__file__).parent

PROGRAM = '''
    import datetime, sys, types

    real_date, real_datetime = datetime.date, datetime.datetime

    # As freezegun does it: classes of its own in place of both, which make more of their kind.
    class Meta(type):
        def __instancecheck__(cls, value):
            return isinstance(value, cls.real)

    class FakeDate(real_date, metaclass=Meta):
        real = real_date
        @classmethod
        def today(cls):
            return cls(2030, 1, 1)

    class FakeDatetime(real_datetime, FakeDate, metaclass=Meta):
        real = real_datetime
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 1, tzinfo=tz)

    for cls in (FakeDate, FakeDatetime):
        cls.__module__ = "freezegun.api"

    def freeze():
        datetime.date, datetime.datetime = FakeDate, FakeDatetime

    def unfreeze():
        datetime.date, datetime.datetime = real_date, real_datetime
        for module in [found for found in sys.modules.values() if found.__name__ != "__main__"]:
            for name, value in list(vars(module).items()):
                if value is FakeDate:
                    setattr(module, name, real_date)
                if value is FakeDatetime:
                    setattr(module, name, real_datetime)

    BEFORE

    freeze()
    import importlib, pkgutil
    import polos, polos.testing, polos._codec.codec
    for found in pkgutil.walk_packages(polos.__path__, "polos."):
        if not found.name.startswith(("polos.cli", "polos.__main__", "polos.demo")):
            importlib.import_module(found.name)
    from polos._codec.codec import decode, encode
    value = [datetime.datetime.now(), datetime.date.today(), datetime.datetime(2026, 1, 1)]
    decode(encode(value))
    assert polos.schedules.preview("0 9 * * *", count=1)[0].year == 2030
    unfreeze()

    for value in (real_datetime(2026, 1, 1), real_date(2026, 1, 1), datetime.time(1)):
        found = decode(encode(value))
        assert found == value and type(found) is type(value), (value, type(found))
        assert decode(encode([value, {value}])) == [value, {value}]

    def held(value, depth=0):
        """What a value keeps, as far as tables and closures go."""
        yield value
        if depth > 6:
            return
        if isinstance(value, dict):
            inner = [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            inner = list(value)
        elif isinstance(value, types.FunctionType):
            inner = [cell.cell_contents for cell in value.__closure__ or () if cell_is_set(cell)]
            inner += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        else:
            return
        for item in inner:
            yield from held(item, depth + 1)

    def cell_is_set(cell):
        try:
            cell.cell_contents
        except ValueError:
            return False
        return True

    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "polos":
            for attribute, value in vars(module).items():
                if attribute == "__builtins__":
                    continue
                for item in held(value):
                    is_fake = item in (FakeDate, FakeDatetime) if isinstance(item, type) else False
                    assert not is_fake, (name, attribute)
                    assert type(item) not in (FakeDate, FakeDatetime), (name, attribute, item)
    print("clean")
'''


@pytest.mark.parametrize(
    "before", ["", "import polos", "import polos._codec.codec, polos._codec.encoder"]
)
def test_nothing_of_frozen_time_is_left_in_polos(before: str) -> None:
    program = textwrap.dedent(PROGRAM).replace("BEFORE", before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "clean\n", done.stderr[-2_000:]


def test_nothing_of_polos_uses_the_default_executor() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            assert node.func.attr != "to_thread", path
            if node.func.attr == "run_in_executor":
                [first, *_] = node.args
                assert not (isinstance(first, ast.Constant) and first.value is None), path
