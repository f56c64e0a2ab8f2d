// Shared by the programs of this folder: options, rates, and one line of JSON at the end, as in
// `common/side.py`.
"use strict";

const { parseArgs } = require("node:util");
const { makeWorkerUtils } = require("graphile-worker");

const TASK = "nothing";

/** Parse `--url`, `--count`, and further options; their types are those of the defaults. */
exports.options = (defaults = {}) => {
  const all = { folder: ".", url: "", count: 20_000, ...defaults };
  const known = Object.fromEntries(Object.keys(all).map((name) => [name, { type: "string" }]));
  const { values } = parseArgs({ options: known });
  for (const [name, value] of Object.entries(values)) {
    all[name] = typeof all[name] === "number" ? Number(value) : value;
  }
  return all;
};

/** Call `work` with the tools of graphile-worker, in a database that has its tables. */
exports.withTables = async (url, work) => {
  const utils = await makeWorkerUtils({ connectionString: url });
  try {
    await utils.migrate();
    await work(utils);
  } finally {
    await utils.release();
  }
};

/** Return the jobs with the numbers from `first`. */
exports.jobs = (first, count) =>
  Array.from({ length: count }, (_, n) => ({ identifier: TASK, payload: { number: first + n } }));

/** Return the rate per second of `count` things that `work` does. */
exports.rate = async (count, work) => {
  const begun = process.hrtime.bigint();
  await work();
  return count / (Number(process.hrtime.bigint() - begun) / 1e9);
};

exports.report = (figures) => console.log(JSON.stringify(figures));

exports.TASK = TASK;
