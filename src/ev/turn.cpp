// Running a loop: what happens around libev's callbacks, from start() to the exception it raises.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

#include "ev/embed.hpp"
#include "ev/watcher.hpp"
#include "py/gil.hpp"

namespace pyev::ev {

using py::Ref;

// The loop this thread polls, for libev's callback about failed system calls, which names none.
static thread_local Loop* polling = nullptr;

Loop::Frame::Frame(Loop* loop, bool runs, int flags)
    : running(runs),
      wait(runs && !(flags & EVRUN_NOWAIT)),
      once(flags != 0),
      loop_(loop),
      keep_(Ref::borrow(loop->object())),
      outer_(std::exchange(loop->frame_, this)),
      claim_(loop) {}

Loop::Frame::~Frame() { loop_->frame_ = outer_; }

bool Loop::Frame::finish() {
    if (!error) return true;
    py::put_raised(error.release());
    return false;
}

bool Loop::run(int flags, int* remaining) {
    if (closing_) return py::raise(state_->error.get(), "%R is being closed", object());
    Frame frame(this, true, flags);
    Session session(this);
    runs_ = runs_ + 1;
    break_ = EVBREAK_CANCEL;
    int active = ev_run(ev_, flags);
    if (break_ == EVBREAK_ONE) break_ = EVBREAK_CANCEL;
    runs_ = runs_ - 1;
    if (remaining) *remaining = active;
    return frame.finish();
}

// For an exception. A stop of all stays one.
void Loop::break_off() {
    if (break_ != EVBREAK_ALL) ev_break(ev_, break_ = EVBREAK_ONE);
}

void Loop::fail() {
    Ref error = Ref::steal(py::take_raised());
    if (frame_->running) break_off();
    if (!frame_->error) {
        frame_->error = std::move(error);
        return;
    }
    // The first one is raised, unless a later one is no Exception: Ctrl-C does not wait.
    if (!PyObject_TypeCheck(error.get(), reinterpret_cast<PyTypeObject*>(PyExc_Exception)) &&
        PyObject_TypeCheck(frame_->error.get(), reinterpret_cast<PyTypeObject*>(PyExc_Exception))) {
        PyException_SetContext(error.get(), frame_->error.release());
        frame_->error = std::move(error);
        return;
    }
    py::put_raised(error.release());
    PyErr_WriteUnraisable(object());
}

void Loop::report(PyObject* source) {
    // asyncio's handler is told of all but those two.
    if (driver_ ? py::ends_program() : !PyErr_ExceptionMatches(PyExc_Exception))
        fail();
    else if (driver_)
        driver_->report(driver_, source);
    else if (debug_)
        fail();
    else
        PyErr_WriteUnraisable(source);
}

// libev's callbacks.

void Loop::on_system_error(const char*) noexcept {
    if (polling) polling->system_error_ = errno;
}

void Loop::on_invoke(struct ev_loop* ev) { static_cast<Loop*>(ev_userdata(ev))->invoke_pending(); }

void Loop::invoke_pending() {
    rush_.polled();
    postponed_.polled();
    // What ends start() now leaves the pending events for the next one.
    if (int number = std::exchange(system_error_, 0)) {
        (void)py::raise_errno(number);
        return fail();
    }
    if (PyErr_CheckSignals() < 0) return fail();
    settle();
    if (ev_pending_count(ev_)) {
        Ref callback = callback_;
        if (!callback) {
            // Transports and handlers of a driver run Python code without asking, and it has a way
            // of its own. An Embed runs another loop.
            if (!driver_ && !each_turn_) prefetch_.run(ev_, linked_);
            ev_invoke_pending(ev_);
        } else if (!py::call(callback.get(), object()))
            fail();
        if (callback && ev_pending_count(ev_))
            for (Watcher* watcher = watchers_; watcher; watcher = watcher->next())
                watcher->settle_pending();
    }
    if (frame_->error)
        break_off();  // a start() inside a callback since, or stop(), has taken it back
    else if (!frame_->last)
        before_poll();
#ifdef PYEV_VERIFY
    (void)verify();
#endif
}

// Where nobody can tell that a poll which finds nothing is followed by another, which waits. A
// driver has a turn of its own for each, and takes another.
bool Loop::may_rush() const {
    return (!frame_->once || driver_) && !each_turn_ && !callback_ && timeout_interval_ == 0 &&
           pause_.get() == 0;
}

// Where libev is about to wait, and would sleep for io_interval.
bool Loop::may_pause() const {
    if (!pause_.due() || break_ != EVBREAK_CANCEL || ev_async_pending(&wake_)) return false;
    return driver_ ? !driver_->busy(driver_) : held() > 0;
}

// The last code of ours before libev takes over changed descriptors and polls, unless Prepare or
// Fork watchers come in between: then it runs again after them.
void Loop::before_poll() {
    bool waits =
        frame_->wait && !rush_.continues(may_rush()) && !(sent_ && ev_async_pending(sent_));
    if (!rush_.on()) postponed_.settle();
    if (waits && owner_ == state_->main_thread) {
        if (!interrupt_.enter(*state_, ev_, descriptors_)) return fail();
        // Signals from here on end the poll; the ones before it are seen here.
        if (PyErr_CheckSignals() < 0) return fail();
    }
    if (waits && may_pause())
        pause_.sleep(watchers_, driver_ ? driver_->timer : nullptr, interrupt_.fd());
    if (driver_) wakeup_.before_poll(ev_, descriptors_);
    if (stale_embeds_) refresh_embeds();
    bool anew;
    do {  // who is told of a closed descriptor may fork
        anew = rebuild_ || forked_;
        if (anew && !can_rebuild()) return fail();
        if (!descriptors_.check(anew)) fail();
        if (anew) descriptors_.rebuilding();
    } while (anew != (rebuild_ || forked_));
    if (driver_ && frame_->wait && driver_->busy(driver_)) wake();
    polling = this;
}

void Loop::on_release(struct ev_loop* ev) noexcept {
    auto* self = static_cast<Loop*>(ev_userdata(ev));
    // The kernel would not have one: libev told its watchers, and waits all the same.
    if ((self->descriptors_.polled() | self->rebuild_) && ev_pending_count(ev)) self->wake();
    // In a Prepare, too late for this turn's Fork watchers: they and we are told in the next one.
    const bool untold = self->forked_ && !self->rebuild_;
    if (self->rebuild_ || untold) {
        self->rebuild_ = self->forked_ = false;
        self->wakeup_.note_rebuild();
        ++self->generation_;
        for (Embed* embed = self->embedders_; embed; embed = embed->next_embedder())
            embed->owner()->note_stale_embeds();
        self->pid_ = getpid();
        self->descriptors_.rebuilt();
        // libev 4.33 counts io_uring's own timerfd watcher once more each time.
        if (ev_backend(ev) == EVBACKEND_IOURING) ev_unref(ev);
    }
    if (untold) {
        ev_loop_fork(ev);
        self->forked_ = true;
        self->wake();
    }
    // Without a GIL, who waits for the monitor has its turn also where the loop does not wait.
    if (py::kHasGil && (!self->frame_->wait || (self->rush_.on() && py::only_thread()))) return;
    {
        // Noted before: another thread runs as soon as the GIL is let go, and may ask close_fd.
        py::Hold hold(self->gate_);
        self->released_ = PyThreadState_Get();
        if (self->posted()) self->wake();  // left there since `busy` was asked
    }
    PyEval_SaveThread();
}

void Loop::on_acquire(struct ev_loop* ev) noexcept {
    auto* self = static_cast<Loop*>(ev_userdata(ev));
    if (self->released_) {
        int number = errno;  // libev looks at it after this
        PyEval_RestoreThread(self->released_);
        {
            py::Hold hold(self->gate_);
            self->released_ = nullptr;
            self->woken_ = false;
        }
        for (int fd : self->closing_fds_) ::close(fd);
        self->closing_fds_.clear();
        self->wakeup_.polled(self->descriptors_);
        errno = number;
    }
    self->pause_.polled();
    self->frame_->last = self->frame_->once;
}

bool Loop::keep_signals(bool kept) {
    if (kept && !interrupt_.enter(*state_, ev_, descriptors_)) return false;
    interrupt_.keep(kept);
    if (!sessions_) interrupt_.leave();
    return true;
}

// A Fork watcher of our own: libev invokes those before it makes its kernel objects anew.
void Loop::on_rebuild(struct ev_loop* ev, ev_fork*, int) {
    static_cast<Loop*>(ev_userdata(ev))->rebuild_ = true;
}

bool Loop::forked() const { return forked_ || inherited(); }

// libev retries for ever when it cannot make them, so try first. It closes the old epoll before it
// makes the new one; only after a fork it makes a wake-up too, and that needs a number more.
bool Loop::can_rebuild() {
#ifdef __linux__
    int fd = forked() ? eventfd(0, EFD_CLOEXEC) : epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        if (!forked() && (errno == EMFILE || errno == ENFILE)) return true;
        return py::raise_errno(errno);
    }
    ::close(fd);
#endif
    return true;
}

void Loop::close_fd(int fd) {
    if (!released_ || !closing_fds_.push(fd)) ::close(fd);
}

void Loop::unsettle() {
    unsettled_ = true;
    ev_async_send(ev_, &wake_);  // no poll before they are settled
}

void Loop::settle_all() {
    unsettled_ = false;
    for (Watcher* watcher = watchers_; watcher;) {
        // One that was settled ran Python code: begin again.
        watcher = watcher->kind().settle(watcher) ? watchers_ : watcher->next();
    }
}

void Loop::refresh_embeds() {
    stale_embeds_ = false;
    for (Watcher* watcher = watchers_; watcher;) {
        bool told = watcher->kind().event == EV_EMBED && watcher->is_active() &&
                    static_cast<Embed*>(watcher)->refresh();
        watcher = told ? watchers_ : watcher->next();
    }
}

void Loop::forget_interrupt(State& state, int fd, int before) {
    py::Hold hold(state.mutex);
    for (Loop* loop = state.loops; loop; loop = loop->next_) loop->interrupt_.forget(fd, before);
}

bool Loop::lay_over(State& state, int fd, int over, int& before) {
    py::Hold hold(state.mutex);
    for (Loop* loop = state.loops; loop; loop = loop->next_)
        if (loop->interrupt_.lay_over(fd, over, before)) return true;
    return false;
}

void Loop::after_fork() {
    unsigned long me = py::this_thread();
    ev_loop_fork(ev_);
    forked_ = true;
    interrupt_.close();
    wakeup_.after_fork();
    if (owner_ && owner_ != me) orphaned_ = true;
}

// Lifecycle.

// Two descriptors are needed, and libev would wait for the second for ever.
static bool probe_descriptors(int& hint) {
#ifdef __linux__
    int first = eventfd(0, EFD_CLOEXEC), number = errno;
    int second = first < 0 ? -1 : eventfd(0, EFD_CLOEXEC);
    if (second < 0 && first >= 0) number = errno;
    if (first >= 0) close(first);
    if (second >= 0) close(second);
    if (second < 0) return py::raise_errno(number);
    hint = first;
#else
    int ends[2];
    if (pipe(ends) != 0) return py::raise_errno(errno);
    close(ends[0]);
    close(ends[1]);
    hint = ends[0];
#endif
    return true;
}

bool Loop::create(unsigned flags) {
    int hint;
    if (!probe_descriptors(hint)) return false;
    ev_set_syserr_cb(on_system_error);
    ev_ = ev_loop_new(flags);
    if (!ev_) {
        const char* instead = flags & EVFLAG_NOENV ? nullptr : getenv("LIBEV_FLAGS");
        Ref given = Ref::steal(instead ? PyUnicode_FromFormat("LIBEV_FLAGS=%s", instead)
                                       : PyUnicode_FromFormat("flags %u", flags));
        return given && py::raise(state_->error.get(),
                                  "no event loop can be made with %U: `python -m pyev` lists the "
                                  "backends that are there",
                                  given.get());
    }
    ev_set_userdata(ev_, this);
    py::allow_try_ref(object());
    ev_async_init(&wake_, on_wake);
    ev_async_start(ev_, &wake_);
    ev_unref(ev_);
    ev_fork_init(&rebuilt_, on_rebuild);
    ev_set_priority(&rebuilt_, EV_MAXPRI);
    ev_fork_start(ev_, &rebuilt_);
    ev_unref(ev_);
    descriptors_.init(ev_, hint);
    pause_.init(ev_);
    rush_.init(ev_);
    postponed_.init(ev_);
    ev_set_invoke_pending_cb(ev_, on_invoke);
    ev_set_loop_release_cb(ev_, on_release, on_acquire);
    pid_ = getpid();
    py::Hold hold(state_->mutex);
    next_ = state_->loops;
    if (next_) next_->previous_ = this;
    state_->loops = this;
    return true;
}

void Loop::destroy() {
    if (ev_) {
        while (Embed* embed = embedders_) {
            py::Lock both;
            Ref keep = py::try_ref(embed->object());
            if (!py::kHasGil && keep) (void)embed->lock(both, true);
            if (embed == embedders_) embed->stop_now();
        }
        // A Once is owned by the loop alone: kept until all are stopped.
        Ref onces = std::move(onces_);
        for (Watcher* watcher = watchers_; watcher; watcher = watcher->next()) watcher->stop_now();
        pause_.close();
        interrupt_.close();
        wakeup_.close();
        struct ev_loop* ev = ev_;
        {
            py::Hold hold(gate_);
            ev_ = nullptr;
        }
        ev_loop_destroy(ev);
        py::Hold hold(state_->mutex);
        (previous_ ? previous_->next_ : state_->loops) = next_;
        if (next_) next_->previous_ = previous_;
        if (state_->default_loop == this) state_->default_loop = nullptr;
    }
}

}  // namespace pyev::ev
