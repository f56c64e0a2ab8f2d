"""Shared by the rows of the Rust micro-benchmarks: one program measures all sides."""

from harness.model import Case, Figure, Side

CRATES = ("polos", "baseline", "cron", "croner", "cronexpr")
EXPRESSIONS = ("daily", "weekdays", "monthly", "leap day")


def case(filter: str, *, on_ram: bool = False) -> Case:
    """Return the case of the benchmarks whose name contains ``filter``."""
    side = Side("criterion", "peers/micro.py", "micro", {"filter": filter}, on_ram=on_ram)
    return Case(filter, (side,), on_disk=False)


def figures(group: str, names: tuple[str, ...], crates: tuple[str, ...]) -> tuple[Figure, ...]:
    """Return a column for each benchmark."""
    return tuple(
        Figure(f"{group}/{name}/{crate}", f"{name}, {crate}", "ns")
        for name in names
        for crate in crates
    )
