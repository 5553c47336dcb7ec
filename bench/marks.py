"""The turns of a piece of work that bench/instructions.py counts, with marks for callgrind."""

import ctypes
from collections.abc import Iterator

WARM = 32  # turns, or fewer where they are long, before those that are counted
MANY = 3  # the longer part's turns, in the shorter one's


def marked(turns: int, library: str | None) -> Iterator[int]:
    """How many turns to take, time and again: for a warm-up, and then what is counted.

    With `library`, marks.c compiled, these are a short part and a longer one. What the longer one
    costs more is what its turns cost, without whatever happens once in each part.
    """
    yield min(turns, WARM)
    if library is None:
        yield turns
        return
    marks = ctypes.CDLL(library)
    marks.start()
    marks.mark()
    yield turns
    marks.mark()
    yield MANY * turns
    marks.mark()
