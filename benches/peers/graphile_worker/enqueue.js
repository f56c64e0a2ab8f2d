// Jobs enqueued with graphile-worker: all in one statement.
"use strict";

const side = require("./side");

const options = side.options();

side.withTables(options.url, async (utils) => {
  const add = () => utils.addJobs(side.jobs(0, options.count));
  side.report({ many_per_s: await side.rate(options.count, add) });
});
