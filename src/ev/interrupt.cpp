// The pipe behind signal.set_wakeup_fd while a loop polls.
#include "ev/interrupt.hpp"

#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "ev/loop.hpp"
#include "py/error.hpp"

namespace pyev::ev {

// What a signal may have to wait for while there is no pipe, in seconds.
static constexpr double kShortWait = 0.05;

void Interrupt::wait_shortly(struct ev_loop* loop) {
    if (ev_is_active(&short_wait_)) return;
    // It holds no loop running; libev stops it before it fires, which takes the reference anew.
    ev_timer_init(
        &short_wait_, [](struct ev_loop* ev, ev_timer*, int) { ev_ref(ev); }, kShortWait, 0.);
    ev_timer_start(loop, &short_wait_);
    ev_unref(loop);
}

bool Interrupt::open(struct ev_loop* loop, Descriptors& descriptors) {
    int ends[2];
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
        if (errno != EMFILE && errno != ENFILE) return py::raise_errno(errno);
        wait_shortly(loop);
        return true;
    }
    reader_ = ends[0];
    writer_ = ends[1];
    loop_ = loop;
    previous_ = -1;
    ev_io_init(&io_, readable, reader_, EV_READ);
    ev_set_priority(&io_, EV_MAXPRI);
    io_.data = this;
    descriptors_ = &descriptors;
    watch_ = {&io_, this, dead, nullptr};
    if (int refused = descriptors.start(&watch_)) return py::raise_errno(refused);
    ev_unref(loop_);
    return true;
}

// Closed by the program; the next blocking run makes another.
void Interrupt::dead(Watch* watch) { static_cast<Interrupt*>(watch->owner)->close(); }

void Interrupt::close() {
    if (!loop_) return;
    bool gone = true;
    if (inside_ || kept_)
        gone = let_go();
    else if (state_ && state_->main_thread == py::this_thread())
        (void)let_go();  // who had set another over it may have put it back since
    inside_ = false;
    if (ev_is_active(&io_)) {
        ev_ref(loop_);
        descriptors_->stop(&watch_);
    }
    loop_ = nullptr;
    if (!gone) return;  // their numbers must not become another's
    ::close(reader_);
    if (writer_ >= 0) ::close(writer_);
}

int Interrupt::set(int fd) {
    PyObject* function = state_->set_wakeup_fd.get();
    return py::set_wakeup_fd(fd, function, state_->wakeup_names.get(), fd == writer_);
}

bool Interrupt::enter(State& state, struct ev_loop* loop, Descriptors& descriptors) {
    if (inside_) return true;
    if (!loop_ && !ev_is_active(&short_wait_) && !open(loop, descriptors)) return false;
    if (!loop_) return true;
    state_ = &state;
    py::ErrorGuard guard;
    int previous = set(writer_);
    if (previous < -1) return true;
    if (previous != writer_) {
        // Where it was kept under that one, that one would go back to it.
        if (previous >= 0) Loop::forget_interrupt(state, writer_, previous_);
        previous_ = previous;
    }
    inside_ = true;
    return true;
}

void Interrupt::leave() {
    if (!std::exchange(inside_, false)) return;
    if (!kept_) {
        let_go();
    } else if (previous_ >= 0 && state_) {
        // Kept, but below the one that still polls.
        py::ErrorGuard guard;
        const int other = previous_;
        if (Loop::lay_over(*state_, other, writer_, previous_)) set(other);
    }
}

void Interrupt::keep(bool kept) { kept_ = kept || (kept_ && loop_ && !inside_ && !let_go()); }

// False: signals still write to the pipe, for only the main thread may change that.
bool Interrupt::let_go() {
    if (!state_) return true;
    py::ErrorGuard guard;
    int ours = set(previous_);
    if (ours < -1) ours = set(previous_ = -1);  // the other's descriptor is closed by now
    if (ours < -1) return false;
    if (ours != writer_) {
        set(ours);  // set meanwhile, to stay
        Loop::forget_interrupt(*state_, writer_, previous_);
    }
    if (previous_ >= 0) (void)drain(false);
    previous_ = -1;
    return true;
}

// Empties the pipe; bytes that somebody else waits for go on to them. Each is a signal's number.
// False: nobody can write to it any more.
bool Interrupt::drain(bool tell) {
    unsigned char bytes[128];
    ssize_t size;
    auto* loop = static_cast<Loop*>(ev_userdata(loop_));
    while ((size = read(reader_, bytes, sizeof bytes)) > 0) {
        Driver* driver = tell ? loop->driver() : nullptr;
        for (ssize_t i = 0; driver && i < size; ++i)
            if (!driver->signalled(driver, bytes[i])) return loop->fail(), true;
        if (previous_ >= 0 && write(previous_, bytes, size) < 0) continue;  // full: it wakes anyway
    }
    return size != 0;
}

void Interrupt::readable(struct ev_loop* loop, ev_io* io, int revents) {
    auto* self = static_cast<Interrupt*>(io->data);
    Prefetch& prefetch = static_cast<Loop*>(ev_userdata(loop))->prefetch();
    if (prefetch.takes()) return prefetch.take(io, revents, nullptr);
    if (!(revents & EV_ERROR)) {
        if (self->drain(true)) return;
        // The program has closed the other end, whose number may be another's by now.
        (void)self->let_go();
        self->writer_ = -1;
    } else {
        // libev could not watch it, and has stopped it, which takes the reference anew.
        ev_ref(loop);
        self->descriptors_->stop(&self->watch_);
    }
    self->close();
    self->wait_shortly(loop);
}

}  // namespace pyev::ev
