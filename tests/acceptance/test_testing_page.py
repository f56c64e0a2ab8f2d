"""Every example of `docs/testing.md` is a passing test, and every name in it exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from polos.testing import BlockingVirtualTime, VirtualTime

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"


def test_the_examples_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        assert "def test_" in block
        (tmp_path / f"test_block_{number}.py").write_text(block)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    completed = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_polos", "-W", "error", "--strict-markers",
         "-p", "no:cacheprovider", "--import-mode=importlib", tmp_path],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout
    expected = sum(block.count("def test_") for block in blocks)
    assert re.search(rf"{expected + 2} passed", completed.stdout), "one has three parameters"


def test_what_it_names_exists() -> None:
    for name in re.findall(r"`(?:await )?t\.(\w+)", PAGE.read_text()):
        assert hasattr(VirtualTime, name)
        assert hasattr(BlockingVirtualTime, name)


def test_both_kinds_of_time_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    inner = {"until_ended", "until_ended_here"}
    assert public(VirtualTime) - inner == public(BlockingVirtualTime)
