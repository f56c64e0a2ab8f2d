"""How long `import polos` takes in a new interpreter."""

import time

begun = time.perf_counter()
import polos  # noqa: E402, F401

spent = time.perf_counter() - begun

import side  # noqa: E402

side.options()
side.report(import_ms=spent * 1e3)
