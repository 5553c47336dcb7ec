"""Each guard of without_guards.py is where that says, and README.md has what came of it."""

from pathlib import Path

import pytest
import without_guards
from without_guards import GUARDS, SOURCES, Guard

TABLE = Path(__file__).with_name("README.md").read_text()


@pytest.mark.parametrize("guard", GUARDS, ids=without_guards.name)
def test_a_guard_is_there_and_was_tried(guard: Guard) -> None:
    assert without_guards.without(guard, (SOURCES / guard.file).read_text())
    assert f"| {without_guards.name(guard)} | " in TABLE


def test_the_table_has_no_others() -> None:
    assert TABLE.count("]` | `") == len(GUARDS)
    assert f"These tests, {len(GUARDS)} cases of guard and test" in TABLE
