"""The image, without an engine: the Dockerfile's steps make a working installation of what is locked."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[2]
_LOCKED = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;]+)(?: ; (?P<marker>.+?))? \\$", re.M)
_CHECK = """
import importlib, sys
from domain.core.settings import migrations_dir
for name in ("api.app", "workers.app", "workers.relay", "ops.cli", "ops.doctor", "ops.migrate"):
    importlib.import_module(name)
assert sorted(migrations_dir().glob("versions/*.py")), migrations_dir()
assert "site-packages" in str(migrations_dir()), migrations_dir()
"""


def instructions(stage: str) -> Iterator[tuple[str, str]]:
    """The (instruction, arguments) of one stage of the Dockerfile."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    found = re.search(rf"^FROM \S+ AS {stage}\n(.*?)^FROM ", text, re.M | re.S)
    assert found is not None
    for line in found[1].splitlines():
        instruction, _, arguments = line.partition(" ")
        if instruction in ("COPY", "RUN"):
            yield instruction, arguments


def copy(arguments: str, *, to: Path) -> None:
    *sources, target = arguments.split()
    for source in sources:
        place = to / target / Path(source).name if target.endswith("/") else to / target
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)


def run(command: str, *, place: Path) -> None:
    """A step of the shell, in `place` instead of the root."""
    moved = re.sub(r"(?<![\w.])/(opt|dist)\b", rf"{place}/\1", command)
    subprocess.run(["sh", "-c", moved.replace("python -m venv", f"{sys.executable} -m venv")],
                   cwd=place / "src", check=True)  # fmt: skip


def link(lock: Path, venv: Path) -> None:
    """Put the packages of `lock` into `venv`, by links to those that we run with."""
    (into,) = venv.glob("lib/python*/site-packages")
    for package in _LOCKED.finditer(lock.read_text()):
        if package["marker"] and not Marker(package["marker"]).evaluate():
            continue
        installed = metadata.distribution(package["name"])
        assert installed.version == package["version"], package["name"]
        for top in {file.parts[0] for file in installed.files or () if file.parts[0] != ".."}:
            if not (into / top).exists():
                (into / top).symlink_to(Path(str(installed.locate_file(top))))


def replay(place: Path, *, offline: bool) -> None:
    (place / "src").mkdir()
    for instruction, arguments in instructions("build"):
        if instruction == "COPY":
            copy(arguments, to=place / "src")
            continue
        for command in arguments.split(" && "):
            locked = re.match(r"/opt/(\w+)/bin/pip install .*-r (\S+\.lock)$", command)
            if locked and offline:
                link(place / "src" / locked[2], place / "opt" / locked[1])
            else:
                run(command, place=place)


def assert_works(place: Path) -> None:
    binaries = place / "opt" / "vitals" / "bin"
    subprocess.run([binaries / "python", "-I", "-c", _CHECK], cwd=place, check=True)
    version = subprocess.run([binaries / "vitals", "--version"], cwd=place, check=True, capture_output=True)
    assert version.stdout.decode() == f"vitals, version {metadata.version('merchant-vitals')}\n"


def test_the_image_works_with_the_locked_packages_alone(tmp_path: Path) -> None:
    replay(tmp_path, offline=True)
    assert_works(tmp_path)


@pytest.mark.faults
def test_the_image_installs_by_hash(tmp_path: Path) -> None:
    replay(tmp_path, offline=False)
    assert_works(tmp_path)


def test_the_image_runs_as_an_ordinary_user() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["10001"]


def test_what_the_image_copies_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for instruction, arguments in instructions("build")
        if instruction == "COPY"
        for source in arguments.split()[:-1]
    }
    assert copied == kept


def test_only_the_migration_has_the_administrators_password() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    knowing = {name for name, service in services.items() if "POSTGRES_PASSWORD" in str(service)}
    assert knowing == {"postgres", "migrate"}


def test_every_process_runs_in_the_composition() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    commands = {name: service["command"][0] for name, service in services.items() if "build" in service}
    assert commands == {
        "migrate": "migrate",
        "api": "serve",
        "worker-ingest": "worker",
        "worker-live": "worker",
        "worker-slow": "worker",
        "beat": "beat",
        "relay": "relay",
    }
