"""For mkdocstrings: types come from the stub, docstrings from the built module."""

import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

import pyev

# What begins a line of its own in a docstring.
PARAGRAPH = re.compile(r"\n(?=Raises |libev manual: |\w+(?:, \w+)*: )")


def to_markdown(doc: str) -> str:
    """Docstrings are plain text but for `code`: keep Markdown from seeing more in them."""
    parts = re.split(r"(`[^`]*`)", PARAGRAPH.sub("\n\n", doc))
    return "".join(p if p.startswith("`") else re.sub(r"([*_<\[])", r"\\\1", p) for p in parts)


def native_methods(cls: type) -> Iterator[griffe.Function]:
    """The public methods of a class that is made at run time, which no stub lists."""
    for name, value in vars(cls).items():
        if name.startswith("_"):
            continue
        parameters = griffe.Parameters()
        for each in inspect.signature(value).parameters.values():
            default = None if each.default is each.empty else repr(each.default)
            kind = griffe.ParameterKind.positional_or_keyword
            parameters.add(griffe.Parameter(each.name, kind=kind, default=default))
        function = griffe.Function(name, parameters=parameters)
        function.docstring = griffe.Docstring(to_markdown(inspect.getdoc(value)), parent=function)
        yield function


class Docstrings(griffe.Extension):
    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if cls.path in ("pyev._streams.StreamReader", "pyev._streams.StreamWriter"):
            for method in native_methods(getattr(pyev, cls.name)):
                cls.set_member(method.name, method)

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.is_module:
            obj.docstring = None  # of files that users do not import
            return
        names = obj.path.split(".")
        if names[:2] != ["pyev", "_core"]:
            if obj.docstring:
                obj.docstring = griffe.Docstring(to_markdown(obj.docstring.value), parent=obj)
            return
        del names[:2]
        if obj.is_attribute and len(names) == 1:
            return  # a constant's docstring would be that of int
        if names and names[-1] == "__init__":
            return  # the class's docstring has it
        try:
            value = functools.reduce(getattr, names, importlib.import_module("pyev._core"))
        except AttributeError:
            return  # a name of the stub's own
        if doc := inspect.getdoc(value):
            obj.docstring = griffe.Docstring(to_markdown(doc), parent=obj)
