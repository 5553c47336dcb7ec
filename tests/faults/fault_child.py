"""python fault_child.py FILE FUNCTION CASES: runs one scenario, see fault_harness.py."""

import ast
import faulthandler
import gc
import json
import os
import sys

NOT_HERE = {"pytest", "fault_harness", "hypothesis"}


def scenario(path: str, name: str) -> dict[str, object]:
    """The namespace of the file, with but one of its decorated functions."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import) and {a.name for a in node.names} & NOT_HERE:
            continue
        if isinstance(node, ast.ImportFrom) and node.module in NOT_HERE:
            continue
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            if node.name != name:
                continue
            node.decorator_list = []
        kept.append(node)
    tree.body = kept
    namespace: dict[str, object] = {"__name__": "scenario", "__file__": path}
    exec(compile(tree, path, "exec"), namespace)
    return namespace


def main() -> None:
    path, name, cases = sys.argv[1:]
    faulthandler.dump_traceback_later(float(os.environ["PYEV_FAULT_LIMIT"]), exit=True)
    import fault_kit

    function = scenario(path, name)[name]
    assert callable(function)
    for arguments in json.loads(cases):
        before = fault_kit.open_fds()
        # Where everything ends at once, this alone tells which case it was.
        fault_kit.note(f"with {arguments}")
        function(**arguments)
        fault_kit.clean_up()
        gc.collect()
        now = fault_kit.open_fds()
        left = {fd: target for fd, target in now.items() if before.get(fd) != target}
        assert not left or fault_kit.kept, f"descriptors left open: {left}"
    fault_kit.note("")
    faulthandler.cancel_dump_traceback_later()
    print("ok", flush=True)


main()
