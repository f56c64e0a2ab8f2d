-- Gives the planner statistics of typical rows while the tables are empty. Without statistics, it
-- takes all indexes for equally good, and the server keeps such a plan while the tables grow, until
-- they are analyzed: it would look for one schedule among all of its project, or for one run among all
-- running ones. So this script inserts typical rows, analyzes them, and removes them. If there are
-- rows, it analyzes these.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM @schedule) AND NOT EXISTS (SELECT FROM @run) AND NOT EXISTS (SELECT FROM @worker) THEN
        -- Other writers wait, so that their rows are not truncated.
        LOCK TABLE @schedule, @run, @step, @ledger, @worker IN ACCESS EXCLUSIVE MODE;
    END IF;
    IF EXISTS (SELECT FROM @schedule) OR EXISTS (SELECT FROM @run) OR EXISTS (SELECT FROM @step)
        OR EXISTS (SELECT FROM @ledger) OR EXISTS (SELECT FROM @worker) THEN
        ANALYZE @schedule, @run, @step, @ledger, @worker;
        RETURN;
    END IF;

    INSERT INTO @schedule (id, revision, status, next_slot, last_slot, attended_from, created_at, updated_at, project,
        workflow, key, owner, cadence, spec)
    SELECT 'sch_' || n, n % 20, CASE n % 20 WHEN 0 THEN 'paused' WHEN 1 THEN 'retired' ELSE 'active' END, n, n, n, n, n,
        'default', 'workflow ' || n % 4, 'key ' || n, CASE n % 10 WHEN 0 THEN 'app' END, 'cadence', 'spec'
    FROM generate_series(1, 400) AS n;

    INSERT INTO @run (id, state, token, attempt, available_at, created_at, started_at, finished_at, slot, origin,
        project, workflow, key, schedule_id, worker, timezone, parent, idempotency_key, kept)
    SELECT 'run_' || n, state, 1, 1, n, n, n, CASE WHEN state IN ('succeeded', 'failed') THEN n END,
        CASE n % 2 WHEN 0 THEN n END, CASE n % 2 WHEN 0 THEN 'schedule' ELSE 'invoke' END, 'default',
        'workflow ' || n % 4, 'global', CASE n % 2 WHEN 0 THEN 'sch_' || n / 20 END,
        CASE WHEN state <> 'queued' THEN 'wkr_' || n % 4 END, 'UTC', CASE n % 10 WHEN 1 THEN 'run_' || n / 4 END,
        CASE n % 10 WHEN 3 THEN 'key ' || n END, n % 2
    FROM (
        SELECT n, CASE
            WHEN n % 20 < 10 THEN 'succeeded' WHEN n % 20 < 11 THEN 'failed' WHEN n % 20 < 15 THEN 'running'
            WHEN n % 20 < 18 THEN 'queued' WHEN n % 20 < 19 THEN 'waiting' ELSE 'buffered' END AS state
        FROM generate_series(1, 800) AS n
    ) AS shown;

    INSERT INTO @step (run, name, state, attempt, run_attempt, started_at, finished_at)
    SELECT n / 4, 'step ' || n % 4, CASE n % 10 WHEN 0 THEN 'failed' ELSE 'done' END, 1, 1, n, n
    FROM generate_series(1, 800) AS n;

    INSERT INTO @ledger (project, schedule_id, from_slot, until_slot, slot_count, fate, reason)
    SELECT 'default', 'sch_' || n / 20, n, n, 1, 'missed', 'reason'
    FROM generate_series(1, 400) AS n;

    INSERT INTO @worker
    SELECT 'wkr_' || n, 'default', 'app', 'host', n, 'mark', '{}', 1, n, n, '{}'
    FROM generate_series(1, 20) AS n;

    ANALYZE @schedule, @run, @step, @ledger, @worker;
    TRUNCATE @schedule, @run, @step, @ledger, @worker RESTART IDENTITY;
END
$$;
