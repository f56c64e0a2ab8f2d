"""Executing runs: handlers, steps, threads, signals."""
