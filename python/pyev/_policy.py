# mypy: disable-error-code="assignment,attr-defined,misc,valid-type"
# asyncio's stubs do not have the names that policies go by from Python 3.14 on.
"""An event loop policy, for what makes its loops by asyncio.new_event_loop() and takes no factory.

From Python 3.14 on, asyncio warns whoever touches its own policy classes by their public names, so
this module is imported only when a policy is asked for, and uses their other names there.
"""

import asyncio
import sys
import warnings
from asyncio import events, unix_events

from pyev._eventloop import EventLoop

__all__ = ["EventLoopPolicy", "install"]

if sys.version_info >= (3, 14):
    _DefaultEventLoopPolicy = unix_events._DefaultEventLoopPolicy
else:
    _DefaultEventLoopPolicy = unix_events.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultEventLoopPolicy):
    """The standard event loop policy, but that it makes `pyev.EventLoop`s.

    For asyncio.set_event_loop_policy(), and libraries that take a policy. Where a factory of loops
    can be given, give `pyev.new_event_loop`: Python deprecates policies since 3.14.
    """

    _loop_factory = EventLoop


def install() -> None:
    """Have asyncio.run() and asyncio.new_event_loop() make `pyev.EventLoop`s, in the whole process.

    It sets a `pyev.EventLoopPolicy`; loops that are there already stay as they are. Raises a
    DeprecationWarning on Python 3.14 and later: use pyev.run(), or pass `pyev.new_event_loop` to
    what makes the loop.
    """
    if sys.version_info >= (3, 14):
        warnings.warn(
            "pyev.install() sets an event loop policy, and Python 3.16 will have none: "
            "use pyev.run(), or loop_factory=pyev.new_event_loop",
            DeprecationWarning,
            stacklevel=2,
        )
        events._set_event_loop_policy(EventLoopPolicy())
    else:
        asyncio.set_event_loop_policy(EventLoopPolicy())
