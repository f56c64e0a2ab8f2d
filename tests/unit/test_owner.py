"""A worker's application is derived from where its code is, not from how it was started."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from polos import PolosClient, Worker, workflow
from polos._runtime.owner import CodeFile, owner_of

PYTHON = Path(__file__).resolve().parents[2] / "python"

MAIN = """
    import sys
    from polos import PolosClient, Worker, workflow

    @workflow(id="job", schedule="0 9 * * *")
    def job(): ...

    print(Worker(PolosClient()).app)
"""


def place(folder: Path, *names: str) -> Path:
    """Create a file; every folder on its path except the first is a package."""
    path = folder.joinpath(*names)
    path.parent.mkdir(parents=True, exist_ok=True)
    for parent in path.parents:
        if parent in (folder, folder / names[0]):
            break
        (parent / "__init__.py").touch()
    path.write_text(textwrap.dedent(MAIN))
    return path


def started(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(PYTHON)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_script_is_named_by_its_folder_and_file(tmp_path: Path) -> None:
    place(tmp_path, "billing", "main.py")
    for folder, arguments in [
        (tmp_path / "billing", ["main.py"]),
        (tmp_path, ["billing/main.py"]),
        (tmp_path / "billing", ["-m", "main"]),
        (tmp_path / "billing", ["-c", "import main"]),
    ]:
        assert started(folder, *arguments) == "billing/main.py"


def test_a_module_of_a_package_is_named_by_what_imports_start_from(tmp_path: Path) -> None:
    place(tmp_path, "billing", "app", "main.py")
    for arguments in [["-m", "app.main"], ["-c", "import app.main"], ["app/main.py"]]:
        assert started(tmp_path / "billing", *arguments) == "billing/app/main.py"


def test_a_module_of_a_folder_without_init_is_named_so_too(tmp_path: Path) -> None:
    path = tmp_path / "billing" / "app" / "main.py"
    assert CodeFile(str(path), "app.main").identity == "billing/app/main.py"


def test_what_is_installed_is_named_by_its_path_below_site_packages() -> None:
    path = "/usr/lib/python3/site-packages/billing/worker.py"
    assert CodeFile(path, "billing.worker").identity == "billing/worker.py"
    path = "/usr/lib/python3/dist-packages/billing/__init__.py"
    assert CodeFile(path, "billing").identity == "billing/__init__.py"


def test_a_name_is_always_one_that_can_be_stored() -> None:
    name = CodeFile("/srv/" + "x" * 300 + "/ma\nin.py").identity
    assert len(name) == 255
    assert name.endswith("/ma?in.py")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place(tmp_path, "shop", "shop_jobs.py")
    (tmp_path / "shop" / "shop_jobs.py").write_text("def job(): ...\ndef other(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path / "shop"))
    yield "shop_jobs"
    sys.modules.pop("shop_jobs", None)


def test_the_module_that_declares_all_workflows_is_the_application(module: str) -> None:
    jobs = importlib.import_module(module)
    creator = CodeFile("/srv/billing/main.py", "main")
    owner = owner_of(None, None, creator, [jobs.job, jobs.other])
    assert (owner.name, owner.aliases) == ("shop/shop_jobs.py", ("billing/main.py",))


def test_with_workflows_of_several_modules_it_is_what_creates_the_worker(module: str) -> None:
    jobs = importlib.import_module(module)
    creator = CodeFile("/srv/billing/main.py", "main")
    owner = owner_of(None, None, creator, [jobs.job, test_a_name_is_always_one_that_can_be_stored])
    assert owner.name == "billing/main.py"
    assert "shop/shop_jobs.py" in owner.aliases


def test_the_applications_own_file_comes_first_and_a_given_name_before_all(module: str) -> None:
    jobs = importlib.import_module(module)
    main = CodeFile("/srv/billing/web.py", "web")
    assert owner_of(None, main, None, [jobs.job]).name == "billing/web.py"
    chosen = owner_of("billing", main, None, [jobs.job])
    assert (chosen.name, chosen.aliases) == ("billing", ())


def test_names_of_older_releases_are_known(module: str) -> None:
    jobs = importlib.import_module(module)
    main = CodeFile("/srv/billing/app/main.py", "app.main")
    former = owner_of(None, main, None, [jobs.job]).former
    assert {"main.py", "app.main", "shop_jobs.py", "uvicorn", "gunicorn", "interactive"} <= set(
        former
    )
    assert "billing/app/main.py" in owner_of("billing", main, None, [jobs.job]).former


def test_a_worker_is_named_by_the_code_that_creates_it() -> None:
    @workflow(id="here")
    def here() -> None: ...

    worker = Worker(PolosClient())
    assert worker.app.endswith("/test_owner.py")
    assert Worker(PolosClient(), app="chosen").app == "chosen"
