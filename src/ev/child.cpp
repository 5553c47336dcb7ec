// Child: libev's ev_child, on pidfds where the kernel has them.
#include "ev/child.hpp"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <mutex>

#include "ev/signals.hpp"
#include "py/process_mutex.hpp"

namespace pyev::ev {

using py::Ref;

// What a shell and asyncio say of a process whose status somebody else took: exit code 255.
static constexpr int kUnknownStatus = 255 << 8;

// All active Child watchers of the process.
static std::mutex mutex;
[[maybe_unused]] static const int at_fork = py::hold_at_fork<mutex>();
static Child* children = nullptr;

// In the place of a pidfd that is not ours any more: no descriptor's number.
static constexpr int kNoPidfd = std::numeric_limits<int>::max();

static int open_pidfd([[maybe_unused]] int pid) {
#ifdef SYS_pidfd_open
    return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
#else
    errno = ENOSYS;
    return -1;
#endif
}

static bool is_pidfd_of([[maybe_unused]] int fd, [[maybe_unused]] int pid) {
#ifdef SYS_pidfd_open
    constexpr auto kPidfd = static_cast<idtype_t>(3);  // P_PIDFD, which older headers do not have
    siginfo_t info = {};
    return waitid(kPidfd, static_cast<id_t>(fd), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           (info.si_pid == 0 || info.si_pid == pid);
#else
    return true;
#endif
}

bool Child::configure(PyObject* const* lead) {
    int pid;
    bool trace;
    if (!py::to_int(lead[0], pid) || !py::to_bool(lead[1], trace) || !inactive()) return false;
    if (pid < 0) return py::raise(PyExc_ValueError, "Child: pid must not be negative, not %d", pid);
    pid_ = pid;
    trace_ = trace;
    rpid_ = rstatus_ = 0;
    return true;
}

bool Child::begin() {
    over_ = lost_ = false;
    handed_.clear();
    if (pid_ && !trace_) {
        pidfd_ = open_pidfd(pid_);
        if (pidfd_ >= 0) return watch_pidfd();
        if (errno != ENOSYS && errno != EPERM) return py::raise_errno(errno, object());
    }
    pidfd_ = -1;
    return watch_sigchld();
}

bool Child::watch_pidfd() {
    ev_io_set(io(), pidfd_, EV_READ);
    if (!begin_watch(&watch_)) {
        close(std::exchange(pidfd_, -1));
        return false;
    }
    enlist();
    return true;
}

bool Child::watch_sigchld() {
    if (!owner()->is_default())
        return py::raise(owner()->state().error.get(),
                         pid_ && !trace_ ? "without pidfds a Child needs the default loop"
                                         : "a Child of any process, or with trace, needs the "
                                           "default loop");
    if (!take_over_signal(owner(), SIGCHLD)) return false;
    if (is_active()) return true;
    ev_signal_set(sigchld(), SIGCHLD);
    if (!start_signal(owner(), sigchld())) return false;
    enlist();
    // What happened before is not signalled again.
    ev_feed_event(owner()->ev(), &ev_, EV_SIGNAL);
    return true;
}

void Child::end() {
    dismiss();
    if (pidfd_ < 0) return stop_signal(owner(), sigchld());
    owner()->descriptors().stop(&watch_);
    owner()->close_fd(std::exchange(pidfd_, -1));
}

void Child::dead(Watch* watch) { static_cast<Child*>(watch->owner)->watch_anew(); }

// The program has closed the pidfd, and the number may be another file's by now. The process can
// still be waited for.
void Child::watch_anew() {
    owner()->descriptors().stop(&watch_);
    pidfd_ = open_pidfd(pid_);
    if (pidfd_ < 0) pidfd_ = kNoPidfd;
    ev_io_set(io(), pidfd_, over_ ? 0 : EV_READ);
    if (pidfd_ != kNoPidfd && begin_watch(&watch_)) return;
    PyErr_Clear();
    fail(EBADF);
}

void Child::enlist() {
    std::lock_guard lock(mutex);
    previous_child_ = nullptr;
    next_child_ = children;
    if (children) children->previous_child_ = this;
    children = this;
}

void Child::dismiss() {
    std::lock_guard lock(mutex);
    (previous_child_ ? previous_child_->next_child_ : children) = next_child_;
    if (next_child_) next_child_->previous_child_ = previous_child_;
}

bool Child::concerns(Status status) const {
    bool traced = WIFSTOPPED(status.status) || WIFCONTINUED(status.status);
    return (pid_ == 0 || pid_ == status.pid) && (trace_ || !traced);
}

// waitpid(), and everyone else whom the status concerns has it before anybody can ask again. Those
// with a pidfd look by themselves, in their own thread; the others are told, in theirs.
void Child::collect_for_all(Status& status, int options) {
    bool complete = true, elsewhere = false;
    {
        std::lock_guard lock(mutex);
        status.pid = waitpid(pid_ ? pid_ : -1, &status.status, options);
        if (status.pid <= 0) return;
        for (Child* child = children; child; child = child->next_child_) {
            if (child == this || !child->concerns(status)) continue;
            complete = child->handed_.push(status) && complete;
            if (child->pidfd_ >= 0) continue;
            if (child->loop_.get() == loop_.get())
                ev_feed_event(child->owner()->ev(), &child->ev_, EV_SIGNAL);
            else
                elsewhere = true;
        }
    }
    if (!complete) PyErr_WriteUnraisable(object());
    if (elsewhere) feed_signal(SIGCHLD);
}

bool Child::any_traces() {
    std::lock_guard lock(mutex);
    for (Child* child = children; child; child = child->next_child_)
        if (child->trace_) return true;
    return false;
}

bool Child::take_handed(Status& status) {
    std::lock_guard lock(mutex);
    if (handed_.empty()) return false;
    status = handed_[0];
    handed_.remove_first();
    return true;
}

// The next status that concerns this watcher.
bool Child::collect(Status& status) {
    while (!over_) {
        if (take_handed(status)) return true;
        int traces = pid_ ? trace_ : any_traces();
        int options = WNOHANG | (traces ? WUNTRACED | WCONTINUED : 0);
        collect_for_all(status, options);
        if (status.pid < 0 && errno == EINTR) continue;
        if (status.pid > 0) {
            if (concerns(status)) return true;
            continue;
        }
        if (status.pid == 0 || pid_ == 0) return false;
        // No such child: it has ended, and another thread has just collected it for us, or
        // somebody else has collected it.
        if (take_handed(status)) return true;
        if (pidfd_ < 0) return false;
        status = {pid_, kUnknownStatus};
        lost_ = true;
        return true;
    }
    return false;
}

// A pidfd stays readable, and the watcher active until it is stopped, as in libev.
void Child::rest() {
    over_ = true;
    if (pidfd_ < 0) return;
    owner()->descriptors().stop(&watch_);
    ev_io_set(io(), pidfd_, 0);
    if (!begin_watch(&watch_)) PyErr_WriteUnraisable(object());
}

void Child::event(int revents) {
    const int readiness = pidfd_ >= 0 ? EV_READ : EV_SIGNAL;
    if (!is_active() || !(revents & readiness)) return deliver(revents);
    Ref self = Ref::borrow(object());
    Loop* loop = owner();
    bool collected = false;
    Status status;
    while (owner() == loop && is_active() && collect(status)) {
        collected = true;
        rpid_ = status.pid;
        rstatus_ = status.status;
        if (pid_ && !WIFSTOPPED(status.status) && !WIFCONTINUED(status.status)) {
            // Whoever awaits it need not be told that there is nothing more to come.
            if (awaited())
                stop_now();
            else
                rest();
        }
        deliver(EV_CHILD);
    }
    // Most SIGCHLDs concern others. A pidfd is never ready without cause: this was fed, or it is
    // none.
    if (collected || owner() != loop || readiness != EV_READ) return;
    if (!is_active() || over_ || is_pidfd_of(pidfd_, pid_))
        deliver(revents);
    else
        watch_anew();
}

Ref Child::describe() {
    return Ref::steal(PyUnicode_FromFormat("pid=%d%s", pid_, trace_ ? " trace" : ""));
}

Ref Child::get_pid() { return Ref::steal(PyLong_FromLong(pid_)); }
Ref Child::get_trace() { return Ref::steal(PyBool_FromLong(trace_)); }
Ref Child::get_rpid() { return Ref::steal(PyLong_FromLong(rpid_)); }
bool Child::set_rpid(PyObject* rpid) { return py::to_int(rpid, rpid_); }
Ref Child::get_rstatus() { return Ref::steal(PyLong_FromLong(rstatus_)); }
bool Child::set_rstatus(PyObject* rstatus) { return py::to_int(rstatus, rstatus_); }
Ref Child::get_lost() { return Ref::steal(PyBool_FromLong(lost_)); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, pid, trace)
--

Watch another process from the next start() on. Raises Error while active, and as Child().)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Child::get_pid>("pid",
                             R"(The process watched, 0 for any. Read-only: set() changes it.)"),
    py::get<&Child::get_trace>(
        "trace",
        R"(Whether stops and continuations are reported too. Read-only: set() changes it.)"),
    py::getset<&Child::get_rpid, &Child::set_rpid>(
        "rpid", R"(The process the last event was about; 0 before. Writable.)"),
    py::getset<&Child::get_rstatus, &Child::set_rstatus>(
        "rstatus",
        R"(Its status as os.waitpid() gives it, for os.waitstatus_to_exitcode(); 0 before. Writable.)"),
    py::get<&Child::get_lost>(
        "lost", R"(Whether somebody else took the status, and rstatus is only 0xff00. Read-only.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Child::kType = {
    kName, R"(Child(pid, trace, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Calls callback(watcher, EV_CHILD) when a child process has ended; rpid and rstatus then say how.

pid: the child's, or 0 for any. trace true: also when it was stopped or continued. One pid without
trace works on any loop, by a pidfd; pid 0 and trace need default_loop(), and Error is raised
elsewhere by start(). The process is reaped: don't wait for it elsewhere; if that happened, `lost` is
true and rstatus 0xff00. A one-pid Child without trace is to be stopped by its callback or by hand once the
process ended.
Raises ValueError for a negative pid; start() raises ProcessLookupError for one that does not exist.
libev manual: "ev_child - watch out for process status changes".)",
    methods, getset};

}  // namespace pyev::ev
