"""The stubs tell the truth: about the module (stubtest), and to strict type checkers."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "python"
SAMPLES = sorted((HERE / "samples").glob("*.py"))

pytestmark = pytest.mark.skipif(
    "PYEV_SANITIZED" in os.environ, reason="mypy says the same with and without sanitizers"
)


def said_by(tool: str, *arguments: str, cwd: Path) -> str:
    """What a type checker had to say; "" for nothing."""
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=cwd,
        env=os.environ | {"MYPYPATH": str(SOURCE), "MYPY_CACHE_DIR": str(cwd / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    return done.stdout if done.returncode else ""


def test_type_information_is_installed() -> None:
    package = resources.files("pyev")
    assert (package / "py.typed").is_file()
    assert (package / "_core.pyi").is_file()


def test_stubs_match_the_module(tmp_path: Path) -> None:
    allowed = HERE / "allowed.txt"
    assert said_by("mypy.stubtest", "pyev", "--allowlist", str(allowed), cwd=tmp_path) == ""


def test_every_public_name_has_a_docstring() -> None:
    import pyev

    missing = []
    for name in pyev.__all__:
        value = getattr(pyev, name)
        if isinstance(value, type):
            own = {f"{name}.{key}": item for key, item in vars(value).items() if key[0] != "_"}
        else:
            own = {}
        for path, item in {name: value, **own}.items():
            if not isinstance(item, (int, float, str)) and not getattr(item, "__doc__", None):
                missing.append(path)
    assert missing == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_sample(sample: Path, tmp_path: Path) -> None:
    """Each `type: ignore` in a sample is an error that has to be one: an unused one fails."""
    assert said_by("mypy", "--strict", "--config-file", "", str(sample), cwd=tmp_path) == ""


def test_the_package_itself(tmp_path: Path) -> None:
    assert (
        said_by("mypy", "--strict", "--config-file", "", str(SOURCE / "pyev"), cwd=tmp_path) == ""
    )


def test_samples_and_examples_as_pyright_sees_them(tmp_path: Path) -> None:
    """Editors ask pyright, which solves type variables otherwise than mypy."""
    settings = SOURCE.parent / "pyproject.toml"
    assert said_by("basedpyright", "--project", str(settings), cwd=tmp_path) == ""


def test_no_public_type_is_left_to_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    assert said_by("basedpyright", "--verifytypes", "pyev", "--ignoreexternal", cwd=tmp_path) == ""
