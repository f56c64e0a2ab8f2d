"""Shared by the commands: output, options, tables, and times."""
