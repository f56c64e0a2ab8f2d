"""Runs the rows: environments, rounds, disk probe, report. Uses only the standard library."""
