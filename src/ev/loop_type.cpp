// Loop's tables: its methods, its attributes, and a factory for each watcher.
#include "ev/loop.hpp"
#include "ev/once.hpp"
#include "ev/watcher.hpp"

namespace pyev::ev {

using py::Ref;

// Factories.

template <class T>
Ref Loop::make(py::Args args) {
    PyTypeObject* type = state_->type<T>();
    Ref watcher = Ref::steal(type->tp_new(type, nullptr, nullptr));
    if (!watcher || !py::value_of<Watcher>(watcher.get())->init(args, this)) return {};
    return watcher;
}

Ref Loop::once(py::Args args) {
    Ref once = Ref::steal(py::Slots<Once>::create(state_->type<Once>(), nullptr, nullptr));
    if (!once) return {};
    auto* watcher = py::value_of<Watcher>(once.get());
    if (!watcher->init(args, this)) return {};
    if (watcher->awaited() ? !watcher->activate() : !watcher->start()) return {};
    return once;
}

static PyMethodDef methods[] = {
    py::fast<&Loop::start>("start", R"(start($self, /, flags=0)
--

Run the loop; return True if active watchers remain, False if not.

flags 0 runs until no watcher keeps it running or until stop(); EVRUN_ONCE waits for one batch of
events and returns, EVRUN_NOWAIT handles what is ready without waiting. Calls may nest.
The GIL is released while it waits. Ctrl-C raises KeyboardInterrupt here, without any watcher.
Raises what a callback raised (KeyboardInterrupt, SystemExit and the like always; any Exception
with debug), OSError or Error for a watcher that libev gave up (EV_ERROR), ValueError for other
flags, Error when the loop is closed, RuntimeError when another thread runs it.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_run.)"),
    py::fast<&Loop::stop>("stop", R"(stop($self, /, how=1)
--

Make start() return once the events it has already collected are handled.

how: EVBREAK_ONE (the default) ends the innermost start(), EVBREAK_ALL all nested ones,
EVBREAK_CANCEL takes an earlier stop() back. Does nothing while the loop is not running.
Raises Error when the loop is closed, ValueError for another how, RuntimeError from another
thread: use an Async watcher to stop a loop from there.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_break.)"),
    py::noargs<&Loop::invoke>("invoke", R"(invoke($self, /)
--

Call the pending watchers now, highest priority first.

start() does it by itself; this is for the loop's own callback, or to handle fed events at once.
Raises what a watcher's callback raises, as start() does; Error when the loop is closed.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_invoke_pending.)"),
    py::noargs<&Loop::reset>("reset", R"(reset($self, /)
--

Have the next turn make the kernel's state anew, and run the Fork watchers.

That is what a child process needs after a fork. pyev does it by itself after os.fork(); call it
after a fork that Python does not know of. Raises Error when the loop is closed.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_loop_fork.)"),
    py::noargs<&Loop::close, py::Guard::kNone>("close", R"(close($self, /)
--

Run the Cleanup watchers, stop and detach every other watcher, and give back all descriptors.

May be repeated. Afterwards `closed` is True, every other use of the loop raises Error, and so
does start() of its watchers, which stay inactive. The end of `with Loop() as loop:` calls it.
Raises Error while the loop is running, RuntimeError when it runs in another thread.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_loop_destroy.)"),
    py::noargs<&Loop::enter_with>("__enter__", R"(__enter__($self, /)
--

Return the loop itself; `with` closes it at the end. Raises Error when it is closed.)"),
    py::fast<&Loop::exit_with, py::Guard::kNone>(
        "__exit__", R"(__exit__($self, exc_type, exc_value, traceback, /)
--

Close the loop.)"),
    py::noargs<&Loop::now, py::Guard::kAlive>("now", R"(now($self, /)
--

Return the time at which this turn began handling events, in seconds since the epoch.

It is what a Timer started now counts from. While callbacks run it stands still; update() moves it.
Raises Error when the loop is closed.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_now.)"),
    py::noargs<&Loop::update>("update", R"(update($self, /)
--

Set the loop's time, the one now() returns, to the present.

Useful after a long computation in a callback, before starting a Timer.
Raises Error when the loop is closed.
libev manual: "The special problem of time updates".)"),
    py::noargs<&Loop::suspend>("suspend", R"(suspend($self, /)
--

Note that the process is about to be stopped for a while, for example by SIGTSTP.

Timers then do not count the time until resume(). Call nothing else of the loop in between, and
each resume() after one suspend(). Raises Error when the loop is closed.
libev manual: "The special problems of suspended animation".)"),
    py::noargs<&Loop::resume>("resume", R"(resume($self, /)
--

Go on after suspend(): Timers continue with the time they had left, Periodics are realigned.

Raises Error when the loop is closed.
libev manual: "The special problems of suspended animation".)"),
    py::noargs<&Loop::ref>("ref", R"(ref($self, /)
--

Count one more reason for start() to keep running. Undoes unref().

Raises Error when the loop is closed. A watcher's keepalive attribute is easier to get right.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_ref.)"),
    py::noargs<&Loop::unref>("unref", R"(unref($self, /)
--

Count one reason less for start() to keep running.

Each active watcher counts as one. Call it after a watcher starts, and ref() before it stops; or
use keepalive=False. Raises Error when the count is zero or the loop is closed.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_unref.)"),
    py::noargs<&Loop::verify>("verify", R"(verify($self, /)
--

Check libev's own data structures; the process is aborted if they are damaged.

For hunting memory corruption. Takes time in proportion to the watchers.
Raises Error when the loop is closed.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_verify.)"),
    py::fast<&Loop::feed_fd_event>("feed_fd_event", R"(feed_fd_event($self, /, fd, revents)
--

Pretend that fd became ready: its active Io watchers that asked for revents become pending.

fd: a number or an object with fileno(); revents: EV_READ, EV_WRITE or both.
Does nothing for a descriptor that nobody watches. Raises TypeError, ValueError or OverflowError for
a wrong fd as Io() does, Error when the loop is closed.
libev manual: "OTHER FUNCTIONS".)"),
    py::onearg<&Loop::feed_signal_event>("feed_signal_event",
                                         R"(feed_signal_event($self, signum, /)
--

Pretend that signum was delivered: its active Signal watchers on this loop become pending.

To be called in the loop's own thread; elsewhere use feed_signal().
Raises ValueError for a number that is no signal, Error when the loop is closed.
libev manual: "OTHER FUNCTIONS".)"),
    py::fast<&Loop::once>(
        "once",
        R"(once($self, /, fd, events, timeout, callback=None, data=None, priority=0, *, keepalive=True)
--

Call callback(once, revents) one time: when fd is ready for events or timeout seconds are over.

fd: a number, an object with fileno(), or None for no descriptor. events: EV_READ, EV_WRITE or
both. timeout: seconds; None or negative for no limit. revents has EV_READ, EV_WRITE, EV_TIMER bits.
Returns a Once, already started; the loop keeps it until it fires, is stopped, or the loop closes.
Raises ValueError for neither fd nor timeout or for a NaN one, OSError (EBADF) for a closed
fd, Error for wrong events or a closed loop.
libev manual: "OTHER FUNCTIONS", ev_once (which cannot be cancelled).)"),
    py::fast<&Loop::make<Io>>(
        "io", R"(io($self, /, fd, events, callback=None, data=None, priority=0, *, keepalive=True)
--

Return an Io on this loop: is fd readable or writable? Arguments and errors are Io()'s.)"),
    py::fast<&Loop::make<Timer>>(
        "timer",
        R"(timer($self, /, after, repeat, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Timer on this loop: after seconds, then every repeat seconds. As Timer().)"),
    py::fast<&Loop::make<Periodic>>(
        "periodic",
        R"(periodic($self, /, offset, interval, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Periodic on this loop: at wall-clock times. Arguments and errors are Periodic()'s.)"),
    py::fast<&Loop::make<Scheduler>>(
        "scheduler",
        R"(scheduler($self, /, scheduler, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Scheduler on this loop: at times a function gives. As Scheduler().)"),
    py::fast<&Loop::make<Signal>>(
        "signal",
        R"(signal($self, /, signum, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Signal on this loop. Arguments and errors are Signal()'s.)"),
    py::fast<&Loop::make<Child>>(
        "child",
        R"(child($self, /, pid, trace, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Child on this loop: a process ended. Arguments and errors are Child()'s.)"),
    py::fast<&Loop::make<Stat>>(
        "stat",
        R"(stat($self, /, path, interval=0.0, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Stat on this loop: a file's attributes changed. As Stat().)"),
    py::fast<&Loop::make<Idle>>(
        "idle", R"(idle($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return an Idle on this loop: nothing else to do. Arguments and errors are Idle()'s.)"),
    py::fast<&Loop::make<Prepare>>(
        "prepare", R"(prepare($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Prepare on this loop: called just before it waits. As Prepare().)"),
    py::fast<&Loop::make<Check>>(
        "check", R"(check($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Check on this loop: called just after it waited. As Check().)"),
    py::fast<&Loop::make<Embed>>(
        "embed", R"(embed($self, /, other, callback=None, data=None, priority=0, *, keepalive=True)
--

Return an Embed on this loop: the loop `other` runs inside it. As Embed().)"),
    py::fast<&Loop::make<Fork>>(
        "fork", R"(fork($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return a Fork on this loop: called in the child after a fork. As Fork().)"),
    py::fast<&Loop::make<Async>>(
        "async", R"(async($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return an Async on this loop: wake it from another thread. As Async().

Also there as getattr(loop, "async"), its name before async became a keyword.)"),
    py::fast<&Loop::make<Async>>(
        "async_", R"(async_($self, /, callback=None, data=None, priority=0, *, keepalive=True)
--

Return an Async on this loop: wake it from another thread. As Async().

Also there as getattr(loop, "async"), its name before async became a keyword.)"),
    py::fast<&Loop::make<Cleanup>>(
        "cleanup", R"(cleanup($self, /, callback, data=None, priority=0, *, keepalive=True)
--

Return a Cleanup on this loop: called when it is closed. As Cleanup().)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::getset<&Loop::get_callback, &Loop::set_callback>(
        "callback",
        R"(None, or callback(loop): called in place of invoking the pending watchers, when there are any.

It calls loop.invoke() itself, at once or later. An exception in it stops the loop and leaves
start(), whatever debug is. Setting anything that is not callable or None raises TypeError.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_set_invoke_pending_cb.)"),
    py::getset<&Loop::get_data, &Loop::set_data, py::Guard::kAlive, true>(
        "data", R"(Anything; for the program's own use.)"),
    py::getset<&Loop::get_debug, &Loop::set_debug>(
        "debug",
        R"(Whether any exception in a callback stops the loop and leaves start(). False: an Exception goes to
sys.unraisablehook and the loop goes on; KeyboardInterrupt, SystemExit and the like leave start().)"),
    py::getset<&Loop::get_io_interval, &Loop::set_io_interval>(
        "io_interval",
        R"(Seconds the loop sleeps between polls to collect more events in one; 0.0 for none.

Delays Io, not Timers. Setting a negative, infinite or NaN value raises ValueError.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_set_io_collect_interval.)"),
    py::getset<&Loop::get_timeout_interval, &Loop::set_timeout_interval>(
        "timeout_interval",
        R"(Seconds by which timers may be late so that several fire in one turn; 0.0 for none.

Setting a negative, infinite or NaN value raises ValueError.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS", ev_set_timeout_collect_interval.)"),
    py::get<&Loop::get_backend>("backend",
                                R"(The EVBACKEND_* bit in use. libev manual: ev_backend.)"),
    py::get<&Loop::get_closed, py::Guard::kNone>(
        "closed", R"(Whether close() has been called. Readable on a closed loop too.)"),
    py::get<&Loop::get_default>(
        "default",
        R"(Whether this is the loop of default_loop(). libev manual: ev_is_default_loop.)"),
    py::get<&Loop::get_depth>(
        "depth",
        R"(How many start() calls are nested now; 0 when the loop is not running. libev manual: ev_depth.)"),
    py::get<&Loop::get_iteration>(
        "iteration",
        R"(How many times the loop has polled since it was made. libev manual: ev_iteration.)"),
    py::get<&Loop::get_pending>(
        "pending",
        R"(How many watchers have events not yet handed to their callbacks. libev manual: ev_pending_count.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Loop::kType = {
    "pyev.Loop",
    R"(Loop(flags=0, callback=None, data=None, io_interval=0.0, timeout_interval=0.0, debug=False)
--

An event loop: it waits for events and calls the watchers that asked for them.

flags: EVFLAG_* and EVBACKEND_* bits; EVFLAG_AUTO (0) takes the best recommended backend. The
environment variable LIBEV_FLAGS replaces them unless EVFLAG_NOENV is among them.
callback: see the attribute. data: anything, for the program's own use.
io_interval, timeout_interval: seconds, see the attributes. debug: see the attribute.
Raises Error for unknown bits and when no backend asked for can be had, OSError when the system
refuses descriptors, TypeError or ValueError for arguments of a wrong type or value. A loop runs in
any one thread at a time; while it does, other threads may call Async.send(), feed_signal() and
read attributes, and get RuntimeError for the rest.
libev manual: "FUNCTIONS CONTROLLING EVENT LOOPS".)",
    methods, getset};

}  // namespace pyev::ev
