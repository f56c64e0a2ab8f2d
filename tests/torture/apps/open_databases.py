"""Opens databases as an application does; prints the result of each as a line of JSON.

An argument is the id of the user to run as, since permissions don't apply to root.
"""

from __future__ import annotations

import json
import os
import sys

from polos import PolosClient, PolosError, runs, schedules, workflow


@workflow(id="digest", schedule=True)
def digest() -> None:
    """The workflow of a schedule that is created in each database."""


def opened(path: str) -> dict[str, object]:
    """Read everything, then write."""
    stage = "opening"
    try:
        client = PolosClient(path)
        try:
            keys = [schedule.key for schedule in schedules.sync.list(client)]
            stage = "reading"
            found = runs.sync.list(client, limit=None)
            steps = sum(len(runs.sync.get(client, run.id).steps) for run in found[:20])
            stage = "writing"
            schedules.sync.create(client, digest, "0 0 1 1 *", key="afterwards")
        finally:
            client.close()
    except PolosError as error:
        return {"error": type(error).__name__, "text": str(error), "stage": stage}
    except Exception as error:
        return {"bug": repr(error), "stage": stage}
    return {"keys": keys, "runs": len(found), "steps": steps}


if sys.argv[1:]:
    os.seteuid(int(sys.argv[1]))
for line in sys.stdin:
    print(json.dumps(opened(json.loads(line))), flush=True)  # noqa: T201
