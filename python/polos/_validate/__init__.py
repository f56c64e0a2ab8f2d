"""Checks of what callers pass, before anything is stored."""
