"""Runs the Rust micro-benchmarks whose name has ``--filter``, and reports their medians.

All crates are in one program, so criterion alternates between them, as the rows in Python do with
processes.
"""

import json
import os
import subprocess
from pathlib import Path

import side

options = side.options(filter="", sample_size=15, seconds=0.15)

home = Path(options.folder) / "criterion"
command = [os.environ["BENCH_MICRO"], "--bench", "--noplot", options.filter]
command += ["--warm-up-time", str(options.seconds / 2), "--measurement-time", str(options.seconds)]
command += ["--sample-size", str(options.sample_size)]
place = {"CRITERION_HOME": str(home), "BENCH_FOLDER": os.path.abspath(options.folder)}
subprocess.run(command, env={**os.environ, **place}, check=True, capture_output=True)

figures = {}
for estimates in sorted(home.glob("*/*/*/new/estimates.json")):
    group, name, crate = estimates.parts[-5:-2]
    median = json.loads(estimates.read_text())["median"]["point_estimate"]
    figures[f"{group}/{name}/{crate}"] = median
side.report(**figures)
