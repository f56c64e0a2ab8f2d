"""A web application whose users choose when they get their digest.

    pip install fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app
    curl -X PUT 'localhost:8000/users/ada/digest?hour=8&timezone=Europe/London'
    curl localhost:8000/users/ada/digest

With `--workers 4`, each server process has a worker, and every slot still gets one run.
"""

import sys

import polos
from polos import PolosClient, SchedulePayload, WorkflowContext, schedules, workflow

try:
    from fastapi import FastAPI, HTTPException
except ImportError:
    sys.exit("this example needs FastAPI: pip install fastapi uvicorn")

client = PolosClient()
app = FastAPI(lifespan=polos.lifespan(client))


@workflow(id="digest", schedule=True)
async def digest(ctx: WorkflowContext, payload: SchedulePayload) -> None:
    ctx.log.warning("digest for %s, due at %s", payload.key, payload.timestamp)


@app.put("/users/{user}/digest")
async def subscribe(user: str, hour: int, timezone: str = "UTC") -> dict[str, str]:
    try:
        id = await schedules.create(
            client, digest, cron=f"0 {hour} * * *", timezone=timezone, key=user
        )
    except polos.InvalidScheduleError as error:
        raise HTTPException(422, str(error)) from None
    return {"schedule_id": id}


@app.get("/users/{user}/digest")
async def subscription(user: str) -> dict[str, str]:
    found = await schedules.list(client, workflow=digest, key=user)
    if not found:
        raise HTTPException(404, f"{user} has no digest")
    return {"upcoming": str(found[0].upcoming), "status": found[0].status}
