"""The counts in a real Prometheus and in the Grafana dashboard."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from polos import PolosClient, Worker, schedules, workflow

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "monitoring.md"
DASHBOARD = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
UNPACKED = ROOT / "target" / "prometheus"


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the folder of `prometheus` and `promtool`: installed, or from Debian's package."""
    installed = shutil.which("prometheus")
    if installed is not None and shutil.which("promtool") is not None:
        return Path(installed).parent
    found = UNPACKED / "usr" / "bin"
    if not (found / "prometheus").exists():
        _unpack()
    return found


def _unpack() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("Prometheus is not installed, and this is no Debian to get its package from")
    UNPACKED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED.parent) as folder:
        _unpack_in(Path(folder))


def _unpack_in(folder: Path) -> None:
    command = ["apt-get", "download", "prometheus"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = error.stderr or error
        pytest.skip(f"Prometheus is not installed, and cannot be downloaded: {why}")
    packages = sorted(folder.glob("prometheus_*.deb"))
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg", "-x", packages[-1], unpacked], check=True, timeout=120)
    # Another run of the tests may have done the same meanwhile.
    with suppress(OSError):
        unpacked.rename(UNPACKED)


class Prometheus:
    """A server that scrapes one target."""

    def __init__(self, programs: Path, folder: Path, target: str) -> None:
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "polos", "static_configs": [{"targets": [target]}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                programs / "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def query(self, text: str) -> list[Any]:
        """Return the result of a query; raise if the server refuses it."""
        query = urllib.parse.urlencode({"query": text})
        url = f"http://{self.address}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=60) as response:
            found: list[Any] = json.load(response)["data"]["result"]
            return found

    def value(self, text: str) -> float | None:
        """Return the value of a query; ``None`` while there is no result or no server."""
        try:
            found = self.query(text)
        except urllib.error.HTTPError as error:  # it is starting
            error.close()
            return None
        except OSError:
            return None
        return float(found[0]["value"][1]) if found else None

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


@pytest.fixture
def scrape(programs: Path, tmp_path: Path) -> Iterator[Any]:
    """``scrape(address)``: start a Prometheus that scrapes the address."""
    started: list[Prometheus] = []

    def begin(target: str) -> Prometheus:
        started.append(Prometheus(programs, tmp_path, target))
        return started[-1]

    yield begin
    for server in started:
        server.close()


def metrics_of(address: str | None) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as response:
        text: str = response.read().decode()
        return text


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def documented_queries() -> list[str]:
    (block,) = re.findall(r"^```promql\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    found: list[str] = block.splitlines()
    return found


async def test_a_real_prometheus_scrapes_the_counts(
    client: PolosClient, programs: Path, scrape: Any, eventually: Any
) -> None:
    @workflow(id="report", schedule=True)
    async def report() -> None: ...

    @workflow(id='an "odd"\\name')
    async def odd() -> None: ...

    async with Worker(client, health="127.0.0.1:0") as worker:
        address = worker.health_address
        at = datetime.now(timezone.utc) + timedelta(milliseconds=100)
        await schedules.create(client, report, at=at)
        past = at - timedelta(hours=1)
        await schedules.create(client, report, at=past, key="late", catch_up="none")
        await odd.run(client)

        server = scrape(address)
        ran = 'polos_slots_total{workflow="report",outcome="ran"}'
        ended = 'polos_runs_total{workflow="report",status="succeeded"}'
        for query, value in (
            ("up", 1),
            (ran, 1),
            ('polos_slots_total{workflow="report",outcome="missed"}', 1),
            (ended, 1),
            ('polos_runs_total{workflow="an \\"odd\\"\\\\name",status="succeeded"}', 1),
            ('polos_lateness_seconds_bucket{workflow="report",le="+Inf"}', 1),
            ("polos_ready", 1),
        ):
            await eventually(lambda q=query, v=value: asyncio.to_thread(_is, server, q, v))
        quantile = "histogram_quantile(0.5, sum by (le) (polos_run_duration_seconds_bucket))"
        assert server.value(quantile) > 0

        values = {"$workflow": ".*", "$__rate_interval": "1m"}
        for query in [*dashboard_queries(), *documented_queries()]:
            for name, value in values.items():
                query = query.replace(name, value)
            server.query(query)  # raises if it is none

        text = await asyncio.to_thread(metrics_of, address)
        checked = await asyncio.to_thread(_checked, programs, text)
        assert (checked.returncode, checked.stderr) == (0, "")


def _checked(programs: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _is(server: Prometheus, query: str, value: float) -> bool:
    return server.value(query) == value


async def test_the_dashboard_and_the_page_name_metrics_that_exist(client: PolosClient) -> None:
    @workflow(id="report")
    async def report() -> None: ...

    async with Worker(client, health="127.0.0.1:0") as worker:
        text = await asyncio.to_thread(metrics_of, worker.health_address)
    existing = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        existing.update(name + suffix for suffix in suffixes)
    for query in [*dashboard_queries(), *documented_queries()]:
        named = set(re.findall(r"\bpolos_\w+", query))
        assert named, query
        assert named <= existing, query
    table = PAGE.read_text().partition("| metric | labels |")[2].partition("\n\n")[0]
    families = {name for name, _ in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)}
    assert set(re.findall(r"`(polos_\w+)`", table)) == families


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert DASHBOARD["title"] == "polos"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == variables
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
