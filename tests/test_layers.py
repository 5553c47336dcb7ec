"""The layers of src/: includes go down only, and each fact has one layer that may say it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src"
# From the lowest to the highest; whatever lies in src/ itself (the module) may see everything.
LAYERS = ("py", "ev", "aio", "net")

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def files(root: Path) -> list[Path]:
    return sorted(path for end in ("cpp", "hpp", "h") for path in root.rglob(f"*.{end}"))


def layer_of(path: Path, root: Path) -> int:
    """The index of a file's layer in LAYERS, the module's being one above the last."""
    folder = path.relative_to(root).parts[0]
    if folder in LAYERS:
        return LAYERS.index(folder)
    if path.parent == root:
        return len(LAYERS)
    raise AssertionError(f"{path.relative_to(root)} is in no layer")


def code(path: Path) -> str:
    """A file's text without its comments, line by line where it was."""
    return COMMENT.sub(lambda found: "\n" * found[0].count("\n"), path.read_text())


def own_includes(path: Path, root: Path) -> Iterator[Path]:
    """The files of src/ that this one includes, each looked up as the compiler does."""
    for _, name in INCLUDE.findall(code(path)):
        for folder in (path.parent, root):
            target = (folder / name).resolve()
            if target.is_file() and target.is_relative_to(root):
                yield target
                break


def upward_includes(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)} includes {target.relative_to(root)}"
        for path in files(root)
        for target in own_includes(path, root)
        if layer_of(target, root) > layer_of(path, root)
    ]


def uses(root: Path, pattern: str, *, strings: bool = False) -> list[str]:
    """Where `pattern` occurs in code under `root`, as "file:line"."""
    found = []
    for path in files(root):
        text = code(path) if strings else STRING.sub('""', code(path))
        for match in re.finditer(pattern, text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(root)}:{line}")
    return found


def test_there_is_something_to_check() -> None:
    assert files(SOURCES / "py")
    assert files(SOURCES / "ev")


def test_includes_go_down_only() -> None:
    assert upward_includes(SOURCES) == []


def test_quoted_includes_are_ours_and_angled_ones_are_not() -> None:
    """Otherwise a misspelt include could slip past the rule above."""
    wrong = []
    for path in files(SOURCES):
        ours = {target.name for target in own_includes(path, SOURCES)}
        for mark, name in INCLUDE.findall(code(path)):
            if (mark == '"') != (Path(name).name in ours):
                wrong.append(f"{path.relative_to(SOURCES)}: {name}")
    assert wrong == []


def test_py_never_says_ev() -> None:
    """src/py knows CPython alone: it could be lifted out and used elsewhere."""
    assert uses(SOURCES / "py", r"\b(?:ev_|EV_|EVBACKEND_|EVFLAG_|EVRUN_|EVBREAK_)") == []
    assert uses(SOURCES / "py", r"#[ \t]*include[ \t]*[<\"]ev\.h", strings=True) == []


@pytest.mark.parametrize("name", ["Py_X?DECREF", "Py_CLEAR", "Py_SETREF", "Py_XSETREF"])
def test_references_are_given_back_in_py_only(name: str) -> None:
    places = [place for place in uses(SOURCES, rf"\b{name}\b") if not place.startswith("py/")]
    assert places == []


def test_versions_of_cpython_are_checked_in_compat_only() -> None:
    places = [
        place
        for place in uses(SOURCES, r"\bPY_VERSION_HEX\b")
        if not place.startswith("py/compat.hpp")
    ]
    assert places == []


def test_free_threading_is_checked_in_lock_only() -> None:
    places = [
        place
        for place in uses(SOURCES, r"\bPy_GIL_DISABLED\b|\bPy_(?:BEGIN|END)_CRITICAL_SECTION")
        if not place.startswith(("py/lock.hpp", "py/compat.hpp", "module.cpp"))
    ]
    assert places == []


class TestTheRulesThemselves:
    """Each rule, seen to fail."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for folder in LAYERS:
            (tmp_path / folder).mkdir()
        (tmp_path / "py/ref.hpp").write_text("#include <Python.h>\n// ev_loop\n")
        (tmp_path / "ev/loop.hpp").write_text('#include "py/ref.hpp"\n')
        (tmp_path / "module.cpp").write_text('#include "ev/loop.hpp"\n')
        return tmp_path

    def test_a_tree_that_keeps_them(self, tree: Path) -> None:
        assert upward_includes(tree) == []
        assert uses(tree / "py", r"\bev_") == []

    def test_an_include_upwards(self, tree: Path) -> None:
        (tree / "py/gil.hpp").write_text('/* why */\n  # include "../ev/loop.hpp"\n')
        assert upward_includes(tree) == ["py/gil.hpp includes ev/loop.hpp"]

    def test_an_include_of_the_module(self, tree: Path) -> None:
        (tree / "state.hpp").touch()
        (tree / "net/tls.cpp").write_text('#include "state.hpp"\n')
        assert upward_includes(tree) == ["net/tls.cpp includes state.hpp"]

    def test_a_folder_outside_the_layers(self, tree: Path) -> None:
        (tree / "util").mkdir()
        (tree / "util/list.hpp").write_text('#include "py/ref.hpp"\n')
        with pytest.raises(AssertionError, match=r"util/list\.hpp is in no layer"):
            upward_includes(tree)

    def test_a_forbidden_word(self, tree: Path) -> None:
        (tree / "py/ref.hpp").write_text('// ev_a\nauto x = "ev_b";\nev_c();\n')
        assert uses(tree, r"\bev_") == ["py/ref.hpp:3"]
