"""Forms of the dashboard, submitted as a browser does."""

from __future__ import annotations

import re

import httpx

# What a browser sends for a typed address or a followed link.
NAVIGATION = {
    "accept": "text/html,application/xhtml+xml",
    "sec-fetch-site": "none",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}


def secret_in(page: httpx.Response) -> str:
    """Return the secret in the forms of a page."""
    found = re.search(r'name="secret" value="([0-9a-f]{64})"', page.text)
    assert found, f"no form on {page.url}: {page.status_code}"
    return found[1]


async def submit(
    browser: httpx.AsyncClient, page: str, action: str, **fields: str
) -> httpx.Response:
    """Get ``page``, and submit its form that goes to ``action``."""
    seen = await browser.get(page)
    assert f'action="{action}"' in seen.text, f"{page} has no form for {action}"
    base = str(browser.base_url).rstrip("/")
    return await browser.post(
        action,
        data={"secret": secret_in(seen), **fields},
        headers={"origin": base, "sec-fetch-site": "same-origin"},
    )
