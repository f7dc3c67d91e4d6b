"""pyproject.toml, requirements.lock and environment.yml tell the same story."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
PYTHONS = ("3.11", "3.12", "3.13")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def entries() -> list[str]:
    """The lock's requirements, each with its hashes on one line, without comments."""
    text = re.sub(r"\s*\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", LOCK))
    return [line for line in text.splitlines() if line.strip()]


def locked(python: str) -> dict[str, str]:
    """Name -> version on Linux with that Python."""
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pins = [Requirement(line.split(" --hash")[0]) for line in entries()]
    chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]
    return {canonical(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}


def direct() -> list[str]:
    groups = [PROJECT["project"]["dependencies"], PROJECT["dependency-groups"]["dev"]]
    return [*PROJECT["build-system"]["requires"], *(item for group in groups for item in group)]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_locked_at_a_version_that_it_allows(python: str) -> None:
    pins = locked(python)
    for requirement in map(Requirement, direct()):
        version = pins.get(canonical(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"


def test_every_line_of_the_lock_is_one_version_with_hashes() -> None:
    lines = entries()
    assert len(lines) > len(direct())
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+( ;.*?)? --hash=sha256:", line), line


def test_the_lock_names_no_address() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|\bgit\+| @ ", LOCK)
    assert not (ROOT / "uv.lock").exists()


def test_no_wheel_of_opencv_competes_with_another() -> None:
    names = locked(PYTHONS[0])
    assert [name for name in names if name.startswith("opencv")] == ["opencv-python"]


def test_conda_brings_the_same_python_and_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["project"]["name"]
    python, pip, listed = environment["dependencies"]
    assert python == f"python{PROJECT['project']['requires-python']}"
    assert pip == "pip"
    # Nothing else: pip's hash mode refuses an editable install, which is the second command above it.
    assert listed == {"pip": ["-r requirements.lock"]}
    assert "pip install --no-deps --no-build-isolation --editable ." in (ROOT / "environment.yml").read_text()


def test_the_supported_pythons_are_those_that_are_tested() -> None:
    specifier = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    supported = [f"3.{minor}" for minor in range(8, 20) if specifier.contains(f"3.{minor}")]
    assert tuple(supported) == PYTHONS
