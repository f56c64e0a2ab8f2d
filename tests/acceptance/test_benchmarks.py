"""The benchmark's programs run, and its arithmetic is right. No times are checked."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
BENCHES = ROOT / "benches"
ONE_RUN = {"runs": 2, "steps": 3, "batches": 2}

# All programs run before the first test is over. The deadline of one program on a busy machine.
TIMEOUT = 120
pytestmark = pytest.mark.timeout(4 * TIMEOUT)

# Seconds from the start until a herd is due. If a program isn't prepared by then, it reports that,
# and is started again with the next value.
HERDS = {
    "peers/polos/fires.py", "peers/polos/herd.py", "baselines/herd.py", "baselines/herd_ends.py",
}  # fmt: skip
LEADS = [0.5, 4, 30]
TOO_LATE = "give a longer --lead"

# Every program of polos and every baseline, with the least amount of work.
PROGRAMS: dict[str, dict[str, Any]] = {
    "peers/polos/create.py": {"alone": 2, "at_once": 3, "batches": 1, "bulk": 4},
    "peers/polos/crossings.py": {"alone": 2, "at_once": 3, "batches": 1, "calls": 4},
    "peers/polos/fires.py": {"count": 3},
    "peers/polos/hand_over.py": {"runs": 2},
    "peers/polos/herd.py": {"count": 3},
    "peers/polos/imports.py": {},
    "peers/polos/lateness.py": {"fires": 1, "others": 2},
    "peers/polos/limited_herd.py": {"count": 20, "limit": 2, "fires": 3},
    "peers/polos/limits.py": {"count": 20, "limit": 3, "keys": 5, "rounds": 1},
    "peers/polos/preview.py": {"calls": 1},
    "peers/polos/processes.py": {"processes": 2, "count": 2, "rounds": 1},
    "peers/polos/runs.py": {"alone": 2, "at_once": 3, "batches": 1},
    "peers/polos/several.py": {"count": 4, "rounds": 1, "workers": 2},
    "peers/polos/steps.py": ONE_RUN,
    "peers/polos/store.py": {"count": 3},
    "peers/polos/stored.py": {"idle": 0.01},
    "peers/polos/workers.py": {"count": 3, "workers": 2},
    "baselines/commits.py": {"count": 2, "bulk": 3},
    "baselines/creates.py": {"alone": 2, "at_once": 3, "batches": 1},
    "baselines/crossings.py": {"alone": 2, "at_once": 3, "batches": 1},
    "baselines/herd.py": {"count": 3},
    "baselines/herd_ends.py": {"count": 3},
    "baselines/imports.py": {},
    "baselines/lateness.py": {"fires": 1},
    "baselines/runs.py": {"alone": 2, "at_once": 3, "batches": 1},
    "baselines/steps.py": ONE_RUN,
}


def launch(program: str, place: Path) -> dict[str, Any]:
    leads = LEADS if program in HERDS else [None]
    for lead in leads:
        options = PROGRAMS[program] if lead is None else {**PROGRAMS[program], "lead": lead}
        folder = place / f"{program.replace('/', '-')}-{lead}"
        folder.mkdir()
        command = [sys.executable, str(BENCHES / program), "--folder", str(folder)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        paths = os.pathsep.join([str(BENCHES / "common"), str(ROOT / "python")])
        env = {**os.environ, "PYTHONPATH": paths, "BENCH_STARTED": repr(time.time())}
        done = subprocess.run(
            command, env=env, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT
        )
        if lead == leads[-1] or TOO_LATE not in done.stderr:
            break
    assert done.returncode == 0, f"{program}: {done.stderr}"
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The figures of each program. The programs run at the same time, since they mostly wait."""
    place = tmp_path_factory.mktemp("benches")
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(launch, PROGRAMS, [place] * len(PROGRAMS))
        return dict(zip(PROGRAMS, found, strict=True))


def test_every_program_of_ours_is_tried() -> None:
    there = {
        str(path.relative_to(BENCHES))
        for folder in ("peers/polos", "baselines")
        for path in (BENCHES / folder).glob("*.py")
    }
    assert there == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_reports_figures(program: str, figures: dict[str, dict[str, Any]]) -> None:
    for name, value in figures[program].items():
        for each in value if isinstance(value, list) else [value]:
            assert isinstance(each, (int, float)), name
            assert math.isfinite(each), name
            assert each >= 0, name
    assert figures[program]


@pytest.mark.parametrize(
    "program", ["peers/polos/herd.py", "baselines/herd.py", "baselines/herd_ends.py"]
)
def test_a_herd_is_complete_and_not_early(program: str, figures: dict[str, dict[str, Any]]) -> None:
    found = figures[program]
    assert (found["started"], found["early"]) == (3, 0)
    assert found["first_ms"] <= found["last_ms"]


def test_a_worker_at_rest_writes_nothing(figures: dict[str, dict[str, Any]]) -> None:
    assert figures["peers/polos/stored.py"]["commits_per_s"] == 0


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))


def measured(rounds: list[dict[str, dict[str, Any]]]) -> Any:
    from harness.measured import CaseResult, Results

    results = Results()
    results.cases["case"] = CaseResult(rounds=rounds)
    return results


@pytest.mark.usefixtures("harness")
def test_ratios_are_those_of_each_round() -> None:
    from harness.measured import Summary, met
    from harness.model import Goal

    results = measured(
        [
            {"ours": {"ms": 1.0}, "theirs": {"ms": 10.0}},
            {"ours": {"ms": 4.0}, "theirs": {"ms": 20.0}},
            {"ours": {"ms": 2.0}, "theirs": {"ms": 12.0}},
        ]
    )
    goal = Goal("sooner", "case/theirs/ms", over="case/ours/ms", at_least=6)
    assert results.value_of(goal) == Summary(6.0, 5.0, 10.0)
    assert met(goal, results.value_of(goal)) is True
    slower = Goal("sooner", "case/theirs/ms", over="case/ours/ms", at_least=7)
    assert met(slower, results.value_of(slower)) is False
    more = Goal("more", "case/theirs/ms", minus="case/ours/ms", at_most=10)
    assert results.value_of(more) == Summary(10.0, 9.0, 16.0)


@pytest.mark.usefixtures("harness")
def test_a_side_that_failed_decides_nothing() -> None:
    from harness.measured import met
    from harness.model import Goal

    results = measured([{"ours": {"ms": 1.0}}, {"ours": {"ms": None}}])
    goal = Goal("sooner", "case/theirs/ms", over="case/ours/ms", at_least=6)
    assert results.value_of(goal) is None
    assert met(goal, None) is None


@pytest.mark.usefixtures("harness")
def test_percentiles_are_of_all_rounds_together() -> None:
    results = measured([{"ours": {"ms": [1.0, 2.0]}}, {"ours": {"ms": [3.0, 9.0]}}])
    assert results.summary("case/ours/ms@50").median == 2.0
    assert results.summary("case/ours/ms@99").median == 9.0


@pytest.mark.usefixtures("harness")
def test_a_row_that_is_run_alone_replaces_its_own_section_only() -> None:
    from harness.report import merged

    order = ["herd", "steps"]
    both = merged("", {"steps": "## Steps\n\nold\n", "herd": "## Herd\n\n| a | b | met |\n"}, order)
    again = merged(both, {"steps": "## Steps\n\nnew\n"}, order)
    assert again == both.replace("old", "new")
    assert both.index("## Herd") < both.index("## Steps")
    assert "| [Herd](#herd) (`make bench ROW=herd`) | 1 | 0 |" in both


@pytest.mark.usefixtures("harness")
def test_goals_name_what_is_measured() -> None:
    from cases import ROWS

    for row in ROWS:
        sides = {f"{case.name}/{side.name}" for case in row.cases for side in case.sides}
        keys = {figure.key for figure in row.figures}
        for goal in row.goals:
            for place in filter(None, (goal.value, goal.over, goal.minus)):
                case, side, key = place.split("/", 2)
                assert f"{case}/{side}" in sides, f"{row.name}: {goal.text}"
                assert key in keys, f"{row.name}: {goal.text}"
            assert (goal.at_least is None) != (goal.at_most is None), goal.text
        for case in row.cases:
            for side in case.sides:
                assert (BENCHES / side.script).exists(), side.script


@pytest.mark.usefixtures("harness")
def test_probes_that_differ_twofold_are_told_apart() -> None:
    from harness.probe import differ

    assert differ(1.0, 2.1)
    assert differ(2.1, 1.0)
    assert not differ(1.0, 1.9)


@pytest.mark.usefixtures("harness")
def test_a_plot_has_its_points() -> None:
    from harness.plots import line_chart

    drawn = line_chart(
        title="a < b", x="schedules", y="s", lines={"polos": [(10, 0.5), (1000, 2)], "none": []}
    )
    root = ElementTree.fromstring(drawn)
    line = next(each for each in root.iter() if each.get("class") == "line s0")
    points = line.get("points")
    assert points is not None
    assert len(points.split()) == 2
    assert [each.text for each in root.iter() if each.get("class") == "title"] == ["a < b"]
    assert "polos" in [each.text for each in root.iter()]


@pytest.mark.usefixtures("harness")
def test_a_line_by_itself_needs_no_legend() -> None:
    from harness.plots import line_chart

    drawn = line_chart(title="fires", x="schedules", y="us", lines={"polos": [(10, 1), (1000, 2)]})
    assert "polos" not in [each.text for each in ElementTree.fromstring(drawn).iter()]
