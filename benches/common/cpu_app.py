"""The application of ``several.py``: a handler that only computes."""

import hashlib
import os

from polos import workflow

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))


@workflow(id="burn", schedule=True)
async def burn() -> int:
    """Compute for about a millisecond per round; return the process id."""
    for _ in range(ROUNDS):
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000)
    return os.getpid()
