// The eventfd that other threads end a poll by.
#include "ev/wakeup.hpp"

#include <Python.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

#include <utility>

namespace pyev::ev {

bool Wakeup::File::has(int fd) const {
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

bool Wakeup::intact() {
    if constexpr (py::kHasGil) return edges_ && file_.has(fd_);
    int fd;
    File file;
    {
        py::Hold hold(mutex_);
        if (!edges_) return false;
        fd = fd_;
        file = file_;
    }
    return file.has(fd);
}

bool Wakeup::send() {
#ifdef __linux__
    int fd;
    File file;
    {
        py::Hold hold(mutex_);
        if (!py::kHasGil && !edges_) return false;
        fd = fd_;
        file = file_;
        ++senders_;
    }
    PyThreadState* thread = py::kHasGil ? PyEval_SaveThread() : nullptr;
    const bool failed = !file.has(fd) || eventfd_write(fd, 1) != 0;
    if (py::kHasGil) PyEval_RestoreThread(thread);
    py::Hold hold(mutex_);
    // The loop may have been closed meanwhile, and the number must not be another's by then.
    if (--senders_ == 0 && closing_ >= 0) ::close(std::exchange(closing_, -1));
    if (!failed || fd != fd_) return true;
    edges_ = false;
    tries_ = 0;
#endif
    return false;
}

void Wakeup::open([[maybe_unused]] struct ev_loop* loop,
                  [[maybe_unused]] Descriptors& descriptors) {
    opened_ = true;
#ifdef __linux__
    if (ev_backend(loop) != EVBACKEND_EPOLL) return;
    {
        py::Hold hold(mutex_);
        if (closing_ >= 0) return;
    }
    fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct stat status;
    if (fd_ < 0 || fstat(fd_, &status) != 0) return;
    file_ = {status.st_dev, status.st_ino};
    loop_ = loop;
    descriptors_ = &descriptors;
    ev_io_init(&io_, woken, fd_, EV_READ);
    ev_set_priority(&io_, EV_MAXPRI);
    io_.data = this;
    watch_ = {&io_, this, dead, nullptr};
    if (descriptors.start(&watch_) != 0) {
        ::close(std::exchange(fd_, -1));
        return;
    }
    ev_unref(loop_);
    tries_ = kTries;
#endif
}

// libev's tag is in the event that epoll has for it.
void Wakeup::find_edges([[maybe_unused]] Descriptors& descriptors) {
#ifdef __linux__
    --tries_;
    if (fd_ < 0 || !file_.has(fd_)) return;
    epoll_event events[64];
    eventfd_t value;
    int epoll = descriptors.backend_fd();
    if (epoll < 0 || eventfd_write(fd_, 1) < 0) return;
    int count = epoll_wait(epoll, events, 64, 0);
    (void)!eventfd_read(fd_, &value);
    for (int i = 0; i < count; ++i) {
        if (static_cast<uint32_t>(events[i].data.u64) != static_cast<uint32_t>(fd_)) continue;
        events[i].events = EPOLLIN | EPOLLET;
        edges_ = epoll_ctl(epoll, EPOLL_CTL_MOD, fd_, &events[i]) == 0;
    }
#endif
}

void Wakeup::woken(struct ev_loop*, ev_io* io, [[maybe_unused]] int revents) {
#ifdef __linux__
    auto* self = static_cast<Wakeup*>(io->data);
    if (revents & EV_ERROR) {  // libev could not watch it
        int fd = self->fd_;
        dead(&self->watch_);
        py::Hold hold(self->mutex_);
        return self->close_fd(fd);
    }
    eventfd_t value;
    if (!self->edges_) (void)!eventfd_read(self->fd_, &value);
#endif
}

// Closed by the program: the other way is used from here on.
void Wakeup::dead(Watch* watch) {
    auto* self = static_cast<Wakeup*>(watch->owner);
    ev_ref(self->loop_);
    self->descriptors_->stop(&self->watch_);
    py::Hold hold(self->mutex_);
    self->edges_ = false;
    self->tries_ = 0;
    self->fd_ = -1;
}

void Wakeup::close() {
    if (fd_ >= 0) {
        ev_ref(loop_);
        descriptors_->stop(&watch_);
    }
    py::Hold hold(mutex_);
    edges_ = opened_ = false;
    others_ = 0;
    tries_ = 0;
    if (fd_ >= 0) close_fd(std::exchange(fd_, -1));
}

// Behind the lock.
void Wakeup::close_fd(int fd) {
    if (senders_ > 0)
        closing_ = fd;
    else
        ::close(fd);
}

}  // namespace pyev::ev
