"""docs/libev-api.md against the installed header and against pyev."""

import functools
import os
import re
import shutil
from pathlib import Path

import pytest

import pyev

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "libev-api.md"

FUNCTION = re.compile(r"(?:EV_API_DECL|EV_INLINE)\s+[\w\s*]*?\b(ev_\w+)\s*\(")
VARIABLE = re.compile(r"EV_API_DECL\s+[\w\s*]*?\b(ev_\w+)\s*;")
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(ev_\w+)\(", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
ROW = re.compile(r"^\| `(ev_\w+)` \| (?:`([\w.]+)`|—) \| (.*?) ?\|$", re.MULTILINE)


def find_header() -> Path | None:
    directories = [Path(d) for d in os.environ.get("CPATH", "").split(os.pathsep) if d]
    for prefix in ("/usr", "/usr/local", "/opt/homebrew", "/opt/local"):
        directories += [Path(prefix, "include"), Path(prefix, "include", "libev")]
    if compiler := shutil.which("cc"):
        directories.append(Path(compiler).resolve().parents[1] / "include")
    return next((d / "ev.h" for d in directories if (d / "ev.h").is_file()), None)


@functools.cache
def header() -> str:
    path = find_header()
    if path is None:
        pytest.skip("no ev.h: libev's header is not installed")
    return COMMENT.sub("", path.read_text(encoding="latin-1"))


def rows() -> list[tuple[str, str, str]]:
    return ROW.findall(TABLE.read_text(encoding="utf-8"))


def listed() -> set[str]:
    return {name for name, _, _ in rows()}


def test_header_is_understood():
    functions = set(FUNCTION.findall(header()))
    assert len(functions) > 80
    assert {"ev_run", "ev_loop_new", "ev_once", "ev_walk", "ev_loop_verify"} <= functions
    assert {"ev_default_loop_uc_", "ev_is_default_loop", "ev_userdata"} <= functions


@pytest.mark.parametrize("kind", [FUNCTION, VARIABLE, MACRO], ids=["function", "variable", "macro"])
def test_every_name_of_the_header_is_listed(kind):
    assert set(kind.findall(header())) - listed() == set()


def test_every_listed_name_is_in_the_header():
    known = {name for kind in (FUNCTION, VARIABLE, MACRO) for name in kind.findall(header())}
    assert listed() - known == set()


def test_no_row_is_malformed_or_twice():
    lines = re.findall(r"^\| `(ev_\w+)`", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert lines == [name for name, _, _ in rows()]
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize(("name", "place", "remark"), rows(), ids=lambda value: value[:24] or "-")
def test_place_in_python_exists(name, place, remark):
    if place:
        functools.reduce(getattr, place.split("."), pyev)
    else:
        assert remark, f"{name} has neither a place in Python nor a reason"
