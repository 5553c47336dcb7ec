"""The documentation against the module, the examples and itself."""

import ast
import functools
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import pyev
from pyev import _core
from strict import STRICT

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PROSE = [*PAGES, ROOT / "README.md"]
WATCHERS = [
    value
    for value in vars(pyev).values()
    if isinstance(value, type) and issubclass(value, pyev.Watcher) and value is not pyev.Watcher
]
SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def relative(path):
    return str(path.relative_to(ROOT))


@functools.cache
def text(path):
    return path.read_text(encoding="utf-8")


# Docstrings


def public_names():
    """What the stub lists of the module and of each class, in this order: it is complete."""
    stub = ast.parse(text(ROOT / "python" / "pyev" / "_core.pyi"))
    functions = (ast.FunctionDef, ast.AnnAssign)
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and not hasattr(_core, node.name):
            continue  # a protocol of the stub's own
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, functions):
                    target = member.target if isinstance(member, ast.AnnAssign) else None
                    name = target.id if isinstance(target, ast.Name) else member.name
                    # Python documents its own protocols; a class's docstring has its __init__.
                    if name.strip("_") == name.rstrip("_") and not name.startswith("n_"):
                        yield f"{node.name}.{name}"


NAMES = sorted(set(public_names()))


def look_up(name):
    return functools.reduce(getattr, name.split("."), _core)


def test_stub_is_understood():
    assert {"Loop", "Loop.start", "Timer.repeat", "sleep", "StatResult.mtime_ns"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_docstring(name):
    doc = inspect.getdoc(look_up(name))
    assert doc
    if callable(look_up(name)):
        assert doc.partition("\n\n")[0].endswith((".", "?"))
    assert "--\n" not in doc, "a text signature that Python did not understand"


# What programs call: the others have their base class's signature, or cannot be called.
CALLABLES = [
    n for n in NAMES if callable(look_up(n)) and n not in ("Error", "Once", "StatResult", "Watcher")
]


def test_module_has_a_docstring():
    assert inspect.getdoc(pyev)
    assert inspect.getdoc(_core)


@pytest.mark.parametrize("name", CALLABLES)
def test_signature(name):
    value = look_up(name)
    signature = inspect.signature(value)
    parameters = list(signature.parameters)
    owner = name.rpartition(".")[0]
    if owner:
        assert parameters[0] == "self"
    if isinstance(value, type) and issubclass(value, pyev.Watcher):
        leading = parameters[: parameters.index("loop")]
        tail = ["loop", "callback", "data", "priority", "keepalive"]
        assert parameters == leading + tail
        factory = getattr(pyev.Loop, {"Async": "async_"}.get(name, name.lower()))
        tail.remove("loop")
        assert list(inspect.signature(factory).parameters) == ["self", *leading, *tail]


@pytest.mark.parametrize("name", CALLABLES)
def test_signature_is_the_stubs(name):
    """Names, kinds and whether there is a default: as the stub has them."""
    value = look_up(name)
    signature = inspect.signature(value)
    node = stub_function(f"{name}.__init__" if isinstance(value, type) else name)
    arguments = node.args
    optional = [*arguments.posonlyargs, *arguments.args][len(arguments.defaults) * -1 :]
    optional = {a.arg for a in optional if arguments.defaults} | {
        a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d
    }
    rest = [arguments.vararg] if arguments.vararg else []
    named = [arguments.kwarg] if arguments.kwarg else []
    expected = [
        a.arg
        for a in [*arguments.posonlyargs, *arguments.args, *rest, *arguments.kwonlyargs, *named]
    ]
    actual = [p for p in signature.parameters.values() if p.name != "self"]
    assert [p.name for p in actual] == [name for name in expected if name != "self"]
    assert {p.name for p in actual if p.default is not p.empty} == optional
    by_keyword = {a.arg for a in arguments.kwonlyargs}
    assert {p.name for p in actual if p.kind is p.KEYWORD_ONLY} == by_keyword
    by_position = {a.arg for a in arguments.posonlyargs} - {"self"}
    assert {p.name for p in actual if p.kind is p.POSITIONAL_ONLY} == by_position


def stub_function(name):
    nodes = ast.parse(text(ROOT / "python" / "pyev" / "_core.pyi")).body
    for part in name.split("."):
        node = next(n for n in nodes if getattr(n, "name", None) == part)
        nodes = getattr(node, "body", [])
    return node


# Pages


@pytest.mark.parametrize("watcher", WATCHERS, ids=lambda w: w.__name__)
def test_watcher_has_a_page(watcher):
    name = watcher.__name__
    page = text(DOCS / "watchers" / f"{name.lower()}.md")
    assert page.startswith(f"# {name}: ")
    assert "## Sharp edges" in page
    assert "libev's manual" in page
    includes = SNIPPET.findall(page)
    assert includes
    for include in includes:
        example = ROOT / include
        assert example.stem.rstrip("_") == name.lower()
        ast.parse(text(example))
        assert f"pyev.{name}" in text(example) or f"loop.{name.lower()}" in text(example)
    # What every watcher has is on the index page, though each class has a faster one of its own.
    own = [n for n in vars(watcher) if not n.startswith("_") and not hasattr(pyev.Watcher, n)]
    missing = [
        n for n in own if f"`{n}" not in page and f" {n}`" not in page and f".{n}" not in page
    ]
    assert not missing


def test_loop_page_has_every_name():
    page = text(DOCS / "watchers" / "loop.md")
    own = [n for n in vars(pyev.Loop) if not n.startswith("_") and n != "async"]
    assert [n for n in own if not re.search(rf"\b{n}\b", page)] == []


def test_reference_has_every_name():
    page = text(DOCS / "reference.md")
    hidden = re.search(r'"!\^\((\S+)\)"', page)[1]
    for name in pyev.__all__:
        if hasattr(_core, name):
            assert not re.match(hidden, name)
        else:
            assert re.search(rf"(- |\[|, ){name}\b", page)


def test_every_constant_is_documented():
    pages = "\n".join(text(page) for page in PAGES)
    constants = [n for n in vars(pyev) if n.startswith("EV")]
    assert [n for n in constants if f"`{n}`" not in pages] == []


@pytest.mark.parametrize("page", PROSE, ids=relative)
def test_included_files_exist(page):
    for include in SNIPPET.findall(text(page)):
        name, _, section = include.partition(":")
        assert (ROOT / name).is_file()
        assert not section or f"--8<-- [start:{section}]" in text(ROOT / name)


@functools.cache
def anchors(page):
    """The ids that Markdown's toc gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED_BLOCK.sub("", text(page)), re.MULTILINE)
    slugs = (re.sub(r"[^\w\s-]", "", h.replace("`", "")).strip().lower() for h in headings)
    return {re.sub(r"[-\s]+", "-", slug) for slug in slugs}


@pytest.mark.parametrize("page", PROSE, ids=relative)
def test_links_resolve(page):
    for link in LINK.findall(FENCED.sub("", text(page))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    navigation = set(re.findall(r"(\S+\.md)$", text(ROOT / "mkdocs.yml"), re.MULTILINE))
    assert navigation == {str(page.relative_to(DOCS)) for page in PAGES}


def test_architecture_names_every_source_file():
    page = text(DOCS / "architecture.md")
    stems = {path.stem for path in (ROOT / "src").rglob("*.[ch]pp") if path.stem != "module"}
    assert stems
    assert {stem for stem in stems if f"`{stem}`" not in page} == set()
    for layer in ("py", "ev", "aio"):
        files = {path.stem for path in (ROOT / "src" / layer).iterdir()}
        section = page.partition(f"### Files of `src/{layer}`")[2].partition("\n#")[0]
        rows = re.findall(r"^\| ((?:`\w+` ?)+)\|", section, re.MULTILINE)
        assert {name for row in rows for name in re.findall(r"\w+", row)} == files


# Code on the pages


def blocks():
    for page in PROSE:
        for number, block in enumerate(BLOCK.findall(text(page))):
            if not SNIPPET.search(block):
                yield pytest.param(block, id=f"{relative(page)}-{number}")


@pytest.mark.parametrize("block", list(blocks()))
def test_code_block_runs(block):
    compile(block, "<documentation>", "exec")
    # Its standard input is a pipe that has one line and is then closed.
    result = subprocess.run(
        [*STRICT, "-c", block],
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    # A comment behind the last print says what it prints.
    last = block.rstrip().splitlines()[-1]
    if last.startswith("print(") and "  # " in last:
        assert result.stdout.splitlines()[-1] == last.partition("  # ")[2]
