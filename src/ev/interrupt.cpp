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
    bool gone = (!inside_ && !kept_) || let_go();
    inside_ = false;
    if (ev_is_active(&io_)) {
        ev_ref(loop_);
        descriptors_->stop(&watch_);
    }
    loop_ = nullptr;
    if (!gone) return;  // their numbers must not become another's
    if (state_) Loop::forget_interrupt(*state_, writer_, previous_);
    ::close(reader_);
    ::close(writer_);
}

int Interrupt::set(int fd) {
    PyObject* function = state_->set_wakeup_fd.get();
    return py::set_wakeup_fd(fd, function, state_->wakeup_names.get(), fd == writer_);
}

bool Interrupt::enter(State& state, struct ev_loop* loop, Descriptors& descriptors) {
    if (inside_) return true;
    if (!loop_ && !open(loop, descriptors)) return false;
    if (!loop_) return true;
    state_ = &state;
    py::ErrorGuard guard;
    int previous = set(writer_);
    if (previous < -1) return true;
    if (previous != writer_) previous_ = previous;
    inside_ = true;
    return true;
}

void Interrupt::leave() {
    if (std::exchange(inside_, false) && !kept_) let_go();
}

void Interrupt::keep(bool kept) { kept_ = kept || (kept_ && loop_ && !inside_ && !let_go()); }

// False: signals still write to the pipe, for only the main thread may change that.
bool Interrupt::let_go() {
    py::ErrorGuard guard;
    int ours = set(previous_);
    if (ours < -1) ours = set(previous_ = -1);  // the other's descriptor is closed by now
    if (ours < -1) return false;
    if (ours != writer_) set(ours);  // set meanwhile, to stay
    if (previous_ >= 0) drain(false);
    return true;
}

// Empties the pipe; bytes that somebody else waits for go on to them. Each is a signal's number.
void Interrupt::drain(bool tell) {
    unsigned char bytes[128];
    ssize_t size;
    auto* loop = static_cast<Loop*>(ev_userdata(loop_));
    while ((size = read(reader_, bytes, sizeof bytes)) > 0) {
        Driver* driver = tell ? loop->driver() : nullptr;
        for (ssize_t i = 0; driver && i < size; ++i)
            if (!driver->signalled(driver, bytes[i])) return loop->fail();
        if (previous_ >= 0 && write(previous_, bytes, size) < 0) continue;  // full: it wakes anyway
    }
}

void Interrupt::readable(struct ev_loop* loop, ev_io* io, int revents) {
    auto* self = static_cast<Interrupt*>(io->data);
    if (!(revents & EV_ERROR)) return self->drain(true);
    // libev could not watch it, and has stopped it, which takes the reference anew.
    ev_ref(loop);
    self->descriptors_->stop(&self->watch_);
    self->close();
    self->wait_shortly(loop);
}

}  // namespace pyev::ev
