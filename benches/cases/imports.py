"""The import time."""

from harness.model import Case, Figure, Goal, Row, Side

ROW = Row(
    name="imports",
    title="Import",
    what="`import polos` in a new interpreter, the median of 15 in each round.",
    fairness=(
        "**baseline**: `import asyncio, pydantic` in the same environment, of which pydantic loads "
        "most only when it is used; *with a model*: and a model of one field defined. Byte code "
        "is cached for all, as it is from the second start on.",
    ),
    cases=(
        Case(
            "import",
            (
                Side("polos", "peers/polos/imports.py", "polos", repeats=15),
                Side("baseline", "baselines/imports.py", "polos", repeats=15),
                Side(
                    "baseline with a model",
                    "baselines/imports.py",
                    "polos",
                    {"model": 1},
                    repeats=15,
                ),
            ),
            on_disk=False,
        ),
    ),
    figures=(Figure("import_ms", "import", "ms"),),
    goals=(
        Goal(
            "at most 1.3 x `import asyncio, pydantic`",
            "import/polos/import_ms",
            over="import/baseline/import_ms",
            at_most=1.3,
        ),
    ),
    minutes=0.5,
)
