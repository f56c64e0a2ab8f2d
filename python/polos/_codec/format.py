"""Constants of the encoder and the decoder, and the errors of encoding."""

from __future__ import annotations

TAG = "$polos"
DEPTH_MAX = 200
PLAIN_INT_MAX = 2**63 - 1


class Refused(Exception):
    """A value cannot be stored: the reason, and its place inside the outermost value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._way_out: list[tuple[int, str]] = []

    def inside(self, container: object, step: str) -> None:
        """Note one step of the path, from the inside out."""
        self._way_out.append((id(container), step))

    def located(self) -> tuple[str, bool]:
        """Return the path from the outermost value, and whether the value contains itself."""
        path = ""
        seen: set[int] = set()
        for container, step in reversed(self._way_out):
            if container in seen:
                return path, True
            seen.add(container)
            path += step
        return (path if len(path) <= 200 else f"{path[:100]}…{path[-90:]}"), False


class TooLarge(Exception):
    """The value is larger than the limit. Its exact size is unknown because counting stopped."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size
