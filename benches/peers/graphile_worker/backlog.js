// A backlog of jobs that do nothing, executed by graphile-worker.
//
// With `--batched 1`, it fetches 500 jobs at once and completes in one statement those that have
// ended in one turn of the event loop. That is the fastest setting in its documentation.
"use strict";

const { run } = require("graphile-worker");
const side = require("./side");

const options = side.options({ batched: 0 });
const BATCHED = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const LEFT = "SELECT FROM graphile_worker.jobs LIMIT 1";

side.withTables(options.url, async (utils) => {
  for (let first = 0; first < options.count; first += 1_000) {
    await utils.addJobs(side.jobs(first, Math.min(1_000, options.count - first)));
  }
  const worker = { connectionString: options.url, concurrentJobs: 24, maxPoolSize: 25 };
  const preset = { worker: { ...worker, ...(options.batched ? BATCHED : {}) } };
  let left = options.count;
  let runner;
  const perSecond = await side.rate(options.count, async () => {
    const started = new Promise((resolve) => {
      const task = async () => {
        left -= 1;
        if (left === 0) resolve();
      };
      run({ preset, taskList: { [side.TASK]: task } }).then((begun) => (runner = begun));
    });
    await started;
    // A finished job is deleted.
    while ((await utils.withPgClient((client) => client.query(LEFT))).rowCount > 0);
  });
  await runner.stop();
  side.report({ per_s: perSecond });
});
