// The process's signals, shared out among loops.
#include "ev/signals.hpp"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <mutex>

#include "ev/signal.hpp"
#include "py/process_mutex.hpp"

namespace pyev::ev {

namespace {

struct Owner {
    struct ev_loop* loop;
    int watchers;
    bool by_signalfd;
    unsigned long thread;  // that started the first watcher
    bool was_blocked;      // there, before signalfd
    struct sigaction before;
    struct sigaction installed;  // in its place
};

std::mutex mutex;
[[maybe_unused]] const int at_fork = py::hold_at_fork<mutex>();
Owner owners[NSIG];
std::atomic<unsigned> fed = 0;

// What libev's own handler does, and counted.
void feed(int signum) {
    ev_feed_signal(signum);
    ++fed;
}

// The loop that has the signal and may give it up to `loop`, or empty; and how many watchers of it
// have it. To change a signalfd would be to change the parent's, so that one stays.
py::Ref giver(Loop* loop, int signum, int& watchers) {
    std::lock_guard lock(mutex);
    const Owner& owner = owners[signum];
    if (!owner.watchers || owner.loop == loop->ev() || owner.by_signalfd) return {};
    auto* other = static_cast<Loop*>(ev_userdata(owner.loop));
    if (!other->inherited() || &other->state() != &loop->state()) return {};
    watchers = owner.watchers;
    return py::try_ref(other->object());
}

}  // namespace

bool take_over_signal(Loop* loop, int signum) {
    int watchers;
    py::Ref found = giver(loop, signum, watchers);
    if (!found) return true;
    auto* other = py::value_of<Loop>(found.get());
    py::Locked locked(other, true);
    auto has = [signum](Watcher* watcher) {
        return watcher->kind().event == EV_SIGNAL && watcher->is_active() &&
               static_cast<Signal*>(watcher)->signum() == signum;
    };
    for (Watcher* watcher = other->watchers(); watcher; watcher = watcher->next())
        watchers -= has(watcher);
    if (watchers != 0) return true;  // a Child has SIGCHLD, and keeps it
    auto next = [other, has]() -> Watcher* {
        for (Watcher* watcher = other->watchers(); watcher; watcher = watcher->next())
            if (has(watcher)) return watcher;
        return nullptr;
    };
    // Who is told may do anything to the others.
    while (Watcher* watcher = next()) {
        py::Ref keep = py::try_ref(watcher->object());
        watcher->stop_now();
        if (keep && watcher->awaited()) other->driver()->end_waits(other->driver(), watcher);
    }
    return loop->enter();
}

bool to_signal(PyObject* object, int& signum) {
    if (!py::to_int(object, signum)) return false;
    sigset_t set;
    sigemptyset(&set);
    bool known = signum > 0 && signum < NSIG && sigaddset(&set, signum) == 0;
    if (!known) return py::raise(PyExc_ValueError, "illegal signal number %d", signum);
    return true;
}

void feed_signal(int signum) {
    std::lock_guard lock(mutex);
    feed(signum);
}

unsigned fed_signals() { return fed; }

// False: another loop has it. No Python code runs here, nor does it let others run.
static bool try_signal(Loop* loop, ev_signal* watcher) {
    std::lock_guard lock(mutex);
    int signum = watcher->signum;
    Owner& owner = owners[signum];
    sigset_t mask;
    if (owner.watchers && owner.loop != loop->ev()) return false;
    if (!owner.watchers) {
        sigaction(signum, nullptr, &owner.before);
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        owner.was_blocked = sigismember(&mask, signum) == 1;
        owner.thread = py::this_thread();
    }
    loop->descriptors().note_own_change();  // a signalfd
    ev_signal_start(loop->ev(), watcher);
    if (!owner.watchers++) {
        owner.loop = loop->ev();
        sigaction(signum, nullptr, &owner.installed);
        // With signalfd libev only blocks the signal, and only in this thread.
        owner.by_signalfd = owner.installed.sa_handler == owner.before.sa_handler;
        owner.installed.sa_handler = feed;
        owner.installed.sa_flags = SA_RESTART | SA_ONSTACK;
        sigaction(signum, &owner.installed, nullptr);
        // Else it is the program's: libev 4.33 unblocks the signal where EVFLAG_NOSIGMASK is set,
        // of all cases.
        if (!owner.by_signalfd) pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    }
    return true;
}

bool start_signal(Loop* loop, ev_signal* watcher) {
    return try_signal(loop, watcher) ||
           py::raise(loop->state().error.get(), "signal %d is watched by another loop",
                     watcher->signum);
}

void stop_signal(Loop* loop, ev_signal* watcher) {
    std::lock_guard lock(mutex);
    int signum = watcher->signum;
    Owner& owner = owners[signum];
    bool last = --owner.watchers == 0;
    sigset_t one, mask;
    struct sigaction now;
    if (last) {
        // SIG_DFL, which libev sets for a moment, must not meet the signal in this thread.
        sigemptyset(&one);
        sigaddset(&one, signum);
        pthread_sigmask(SIG_BLOCK, &one, &mask);
        sigaction(signum, nullptr, &now);
    }
    ev_signal_stop(loop->ev(), watcher);
    if (last) {
        // A handler that was installed over libev's stays.
        bool ours = now.sa_handler == owner.installed.sa_handler;
        sigaction(signum, ours ? &owner.before : &now, nullptr);
        // What libev has blocked itself. The mask of the thread that started it is out of reach of
        // any other.
        if (owner.by_signalfd && !owner.was_blocked && owner.thread == py::this_thread())
            sigdelset(&mask, signum);
        pthread_sigmask(SIG_SETMASK, &mask, nullptr);
        owner.loop = nullptr;
    }
}

py::Ref exchange_python_handler(int signum, PyObject* handler) {
    py::Ref module = py::Ref::steal(PyImport_ImportModule("signal"));
    if (!module) return {};
    // Python installs its own handler, or SIG_DFL, which must not meet the signal in this thread.
    sigset_t one, mask;
    sigemptyset(&one);
    sigaddset(&one, signum);
    pthread_sigmask(SIG_BLOCK, &one, &mask);
    struct sigaction now;
    sigaction(signum, nullptr, &now);
    py::Ref before =
        py::Ref::steal(PyObject_CallMethod(module.get(), "signal", "iO", signum, handler));
    if (before) {
        std::lock_guard lock(mutex);
        Owner& owner = owners[signum];
        if (owner.watchers && now.sa_handler == owner.installed.sa_handler)
            sigaction(signum, &owner.installed, &owner.before);
    }
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    return before;
}

}  // namespace pyev::ev
