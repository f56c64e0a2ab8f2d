"""Measures `import asyncio, pydantic` in a new interpreter of polos' environment.

pydantic loads most of itself when it is first used; ``--model 1`` defines a model, as any program
with one has to.
"""

import sys
import time

begun = time.perf_counter()
import asyncio  # noqa: E402, F401

import pydantic  # noqa: E402

if sys.argv[-2:] == ["--model", "1"]:

    class Model(pydantic.BaseModel):
        number: int


spent = time.perf_counter() - begun

import side  # noqa: E402

side.options(model=0)
side.report(import_ms=spent * 1e3)
