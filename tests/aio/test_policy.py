"""EventLoopPolicy and install, for what asks asyncio for its loops. Policies are the process's own,
so each program here is one."""

import sys

import pytest

DEPRECATED = sys.version_info >= (3, 14)


def test_asking_for_the_policy_warns_of_nothing(script):
    """asyncio itself warns from Python 3.14 on, whoever touches its classes."""
    script("""
    import pyev
    from pyev import *
    policy = EventLoopPolicy()
    assert policy is not EventLoopPolicy()
    loop = policy.new_event_loop()
    assert type(loop) is pyev.EventLoop
    loop.close()
    """)


def test_it_is_asyncios_policy(script):
    script("""
    import asyncio, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    import pyev
    assert issubclass(pyev.EventLoopPolicy, asyncio.AbstractEventLoopPolicy)
    assert issubclass(pyev.EventLoopPolicy, asyncio.DefaultEventLoopPolicy)
    asyncio.set_event_loop_policy(pyev.EventLoopPolicy())
    assert type(asyncio.get_event_loop_policy()) is pyev.EventLoopPolicy
    loop = asyncio.new_event_loop()
    assert type(loop) is pyev.EventLoop
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    loop.close()

    # Loops of other threads are their own.
    import threading
    def work():
        try:
            asyncio.get_event_loop()
        except RuntimeError:
            missing.append(1)
    missing = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert missing
    """)


def test_install(script):
    """The programs that asyncio starts, children of theirs included."""
    source = """
    import asyncio, sys, warnings
    import pyev

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert pyev.install() is None
    for warning in seen:
        print(warning.category.__name__, warning.message, warning.filename)

    async def main():
        assert type(asyncio.get_running_loop()) is pyev.EventLoop
        assert asyncio.get_event_loop() is asyncio.get_running_loop()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert await asyncio.to_thread(int, output) == 42

    for _ in range(2):
        asyncio.run(main())
    with asyncio.Runner() as runner:
        runner.run(main())
    # A factory goes before the policy.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert type(runner.get_loop()) is asyncio.SelectorEventLoop
    """
    said = script(source)
    if DEPRECATED:
        assert said.startswith("DeprecationWarning pyev.install() sets an event loop policy")
        assert "loop_factory=pyev.new_event_loop" in said
        assert said.split()[-1] == "<string>"  # whoever called it
    else:
        assert said == ""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="child watchers went with Python 3.14")
def test_child_watchers_of_the_policy(script):
    """One that a program chose is attached to our loop, and does no harm there."""
    script("""
    import asyncio, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    import pyev
    pyev.install()
    asyncio.set_child_watcher(asyncio.SafeChildWatcher())

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())
    asyncio.set_child_watcher(None)
    loop.close()
    """)
