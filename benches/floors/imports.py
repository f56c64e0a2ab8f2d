"""How long `import asyncio, pydantic` takes in a new interpreter, that of polos' environment."""

import time

begun = time.perf_counter()
import asyncio  # noqa: E402, F401

import pydantic  # noqa: E402, F401

spent = time.perf_counter() - begun

import side  # noqa: E402

side.options()
side.report(import_ms=spent * 1e3)
