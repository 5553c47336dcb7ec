// Finding closed descriptors before libev asserts on them.
#include "ev/descriptors.hpp"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include <utility>

#include "py/error.hpp"
#include "py/process_mutex.hpp"

namespace pyev::ev {

// The backends that are told of all descriptors anew for each poll.
static constexpr unsigned kStateless = EVBACKEND_SELECT | EVBACKEND_POLL;

// The backends that are one descriptor, and only look at what changed. libev calls io_uring
// embeddable too, but has no such descriptor for it.
static constexpr unsigned kOwnDescriptor = EVBACKEND_EPOLL | EVBACKEND_KQUEUE | EVBACKEND_PORT;

void Descriptors::init(struct ev_loop* loop, int hint) {
    loop_ = loop;
    always_all_ = !(ev_backend(loop) & kOwnDescriptor);
    find_backend();
    find_wakeup(hint);
}

// An ev_embed learns the backend's descriptor when it starts: libev's one public way to it.
void Descriptors::find_backend() {
    if (!(ev_backend(loop_) & kOwnDescriptor)) return;
    ev_embed probe;
    ev_embed_init(&probe, nullptr, loop_);
    ev_embed_start(loop_, &probe);
    note_own(backend_, probe.io.fd);
    ev_embed_stop(loop_, &probe);
}

// Feeding an event to a descriptor nobody else watches makes libev's own watcher on it pending.
void Descriptors::find_wakeup(int hint) {
    for (int i = 0; i < hint + 64; ++i) {
        int fd = (hint + i) % (hint + 64);
        unsigned before = ev_pending_count(loop_);
        ev_feed_fd_event(loop_, fd, EV_READ);
        if (ev_pending_count(loop_) > before) {
            ev_invoke_pending(loop_);  // reads the empty wake-up
            return note_own(wakeup_, fd);
        }
    }
}

void Descriptors::note_own(Own& own, int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0) return;
    py::Hold hold(mutex_);
    own = {fd, status.st_dev, status.st_ino};
}

// The number that the next descriptor will get, if no other thread is quicker.
int Descriptors::next_number() {
    int fd = dup(STDERR_FILENO);
    if (fd >= 0) close(fd);
    return fd;
}

std::mutex Descriptors::opening_;
[[maybe_unused]] static const int at_fork = py::hold_at_fork<Descriptors::opening_>();

// The first watcher of a kind makes libev open a descriptor.
void Descriptors::settle([[maybe_unused]] KernelFile& file, [[maybe_unused]] int number) {
#ifdef __linux__
    if (number < 0) return;
    char path[32], target[64] = {};
    snprintf(path, sizeof path, "/proc/self/fd/%d", number);
    if (readlink(path, target, sizeof target - 1) < 0 || !strstr(target, file.kind)) return;
    note_own(file.own, number);
#endif
}

void Descriptors::list_kernel_files([[maybe_unused]] const char* kind, py::Array<int>& numbers) {
    numbers.clear();
#ifdef __linux__
    DIR* folder = opendir("/proc/self/fd");
    if (!folder) return;
    while (dirent* entry = readdir(folder)) {
        char target[64] = {};
        if (readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) < 0) continue;
        if (strstr(target, kind) && !numbers.push(atoi(entry->d_name))) PyErr_Clear();
    }
    closedir(folder);
#endif
}

// The one that has come meanwhile is libev's; if none has, it has got its old number again.
void Descriptors::settle_anew(KernelFile& file) {
    int old = std::exchange(file.own.fd, -1);
    if (old < 0) return;
    py::Array<int> now;
    list_kernel_files(file.kind, now);
    for (int number : now) {
        bool known = false;
        for (int other : file.before) known = known || other == number;
        if (!known) settle(file, number);
        if (file.own.fd >= 0) break;
    }
    if (file.own.fd < 0) settle(file, old);
    file.before.reset(0);
}

void Descriptors::rebuilt() {
    {
        py::Hold hold(mutex_);
        backend_.fd = -1;
    }
    // libev makes another, and gives it the number of the one before.
    if (wakeup_.fd >= 0) note_own(wakeup_, wakeup_.fd);
    settle_anew(timerfd_);
    settle_anew(inotify_);
}

bool Descriptors::alive(const Own& own) {
    struct stat status;
    return fstat(own.fd, &status) == 0 && status.st_dev == own.device && status.st_ino == own.inode;
}

// Whether libev has opened it for itself, and closes it when it sees fit.
bool Descriptors::is_own(int fd) const {
    for (const Own* own : {&backend_, &wakeup_, &timerfd_.own, &inotify_.own})
        if (own->fd == fd && alive(*own)) return true;
    return false;
}

// Those that libev hands to the kernel next.
bool Descriptors::own_alive() const {
    for (const Own* own : {&backend_, &wakeup_, &timerfd_.own, &inotify_.own})
        if (own->fd >= 0 && !alive(*own)) return false;
    return true;
}

int Descriptors::backend_fd() {
    if (backend_.fd < 0) find_backend();
    return backend_.fd;
}

// What epoll has against it: EPERM, a file that is always ready; ELOOP or EINVAL, epoll itself and
// cycles or towers of epolls.
int Descriptors::try_epoll([[maybe_unused]] int fd) {
#ifdef __linux__
    if (ev_backend(loop_) != EVBACKEND_EPOLL || backend_fd() < 0) return 0;
    epoll_event nothing = {};
    if (epoll_ctl(backend_.fd, EPOLL_CTL_ADD, fd, &nothing) == 0)
        epoll_ctl(backend_.fd, EPOLL_CTL_DEL, fd, &nothing);
    else if (errno == EPERM || errno == ELOOP || errno == EINVAL)
        return errno;
#endif
    return 0;
}

// 0, or why this descriptor cannot be watched. Closing one drops its kernel registration silently,
// so unless it is known to be the file that was verified last under this number, it is to be
// registered anew. A socket is known by its inode number; other kinds may share theirs.
int Descriptors::verify(int fd, const struct stat& status, Identity& identity) {
    Entry& entry = entries_[fd];
    bool alike = entry.inode == status.st_ino && entry.device == status.st_dev;
    identity = !alike ? Identity::kOther : Identity::kAlike;
    if (alike && S_ISSOCK(status.st_mode)) {
        identity = Identity::kSame;
        return 0;
    }
    if (is_own(fd)) return EBADF;  // whoever had the number was closed before
#ifdef O_PATH
    if (fcntl(fd, F_GETFL) & O_PATH) return EBADF;  // as read and write have it, and epoll
#endif
    // libev asserts that epoll does not refuse it. Epolls, like eventfds, have no type of file.
    if ((status.st_mode & S_IFMT) == 0)
        if (int refused = try_epoll(fd); refused && refused != EPERM) return refused;
    entry.device = status.st_dev;
    entry.inode = status.st_ino;
    entry.socket = S_ISSOCK(status.st_mode);
    return 0;
}

// Whether it is open, and of a kind that `verify` refuses none of: what it does, epolls and the
// like, can be sought in for form's sake. The cheapest of all system calls.
static bool is_stream(int fd) { return lseek(fd, 0, SEEK_CUR) < 0 && errno == ESPIPE; }

int Descriptors::start(Watch* watch, Known known) {
    ev_io* io = watch->io;
    // Of a socket that is open, `check` finds out in time whether it is another one than before.
    bool sure = known == Known::kMade ||
                (!always_all_ && static_cast<size_t>(io->fd) < entries_.size() &&
                 entries_[io->fd].socket && (known == Known::kOpen || is_stream(io->fd)));
    bool look = !sure || always_all_;
    struct stat status;
    if (look && fstat(io->fd, &status) != 0) return errno;
    if (!entries_.extend(io->fd + 1) || !changed_.reserve(entries_.size())) return ENOMEM;
    Identity identity = Identity::kSame;
    if (look) {
        if (int refused = verify(io->fd, status, identity)) return refused;
        const bool may_not = !S_ISSOCK(status.st_mode) && !S_ISFIFO(status.st_mode);
        if (watch->waits && may_not && try_epoll(io->fd) == EPERM) return EPERM;
    } else if (known == Known::kMade) {
        identity = Identity::kOther;
        entries_[io->fd].made = entries_[io->fd].socket = true;
    }
    note_change(io->fd);
    Entry& entry = entries_[io->fd];
    // To tell of that runs Python code, which may do anything to this watch: not here.
    if (identity == Identity::kOther) note_other(io->fd);
    watch->stale = false;
    int events = io->events & (EV_READ | EV_WRITE);
    io->events = events;
    // ev_io_set is what asks libev for a new registration.
    if (identity != Identity::kSame) {
        ev_io_set(io, io->fd, events);
        entry.anew = true;
    }
    watch->next = entry.head;
    entry.head = watch;
    ev_io_start(loop_, io);
    return 0;
}

void Descriptors::note_other(int fd) {
    for (Watch* watch = entries_[fd].head; watch; watch = watch->next)
        if (watch->other) watch->stale = entries_[fd].stale = true;
}

// Who is told may start and stop any of them: after each, begin again.
void Descriptors::tell_other(int fd) {
    entries_[fd].stale = false;
    for (Watch* watch = entries_[fd].head; watch;) {
        const bool tells = std::exchange(watch->stale, false);
        if (tells) {
            ++told_;
            watch->other(watch);
        }
        watch = tells ? entries_[fd].head : watch->next;
    }
}

// The number has become another file's while it was watched: what is pending was the old one's.
void Descriptors::register_anew(int fd) {
    ev_io* io = entries_[fd].head->io;
    int events = io->events;
    ev_io_stop(loop_, io);
    ev_io_set(io, fd, events);
    ev_io_start(loop_, io);
    entries_[fd].anew = true;
    note_other(fd);
    tell_other(fd);
}

// There is room for every descriptor, once.
void Descriptors::note_change(int fd) {
    if (!std::exchange(entries_[fd].changed, true)) (void)changed_.push(fd);
}

void Descriptors::stop(Watch* watch) {
    ev_io_stop(loop_, watch->io);
    size_t fd = static_cast<size_t>(watch->io->fd);
    if (fd >= entries_.size()) return;
    for (Watch** link = &entries_[fd].head; *link; link = &(*link)->next) {
        if (*link != watch) continue;
        *link = watch->next;
        watch->next = nullptr;
        return note_change(watch->io->fd);
    }
}

// Who is told may open another file, which gets the number, and watch that: then this is over.
void Descriptors::bury(int fd) {
    entries_[fd].inode = 0;  // so that it is known for another
    entries_[fd].socket = entries_[fd].anew = false;
    while (Watch* watch = entries_[fd].anew ? nullptr : entries_[fd].head) {
        ++told_;
        watch->dead(watch);
    }
}

bool Descriptors::check_own() {
    if (backend_.fd < 0) find_backend();
    return own_alive() || py::raise_errno(EBADF);
}

// Whether libev will tell the kernel anything. Most changes are a start that follows a stop; and
// on epoll libev ignores that nobody is left.
bool Descriptors::modifies() {
    if (own_changed_ || ev_backend(loop_) != EVBACKEND_EPOLL) return true;
    for (int fd : changed_) {
        Entry& entry = entries_[fd];
        if (entry.head && (entry.anew || entry.events() != entry.told)) return true;
    }
    return false;
}

// Asked one by one: who has heard of another may have opened it by now.
static bool is_dead(int fd) {
    pollfd polled = {fd, 0, 0};
    if (poll(&polled, 1, 0) < 0) return fcntl(fd, F_GETFD) < 0;
    return polled.revents & POLLNVAL;
}

// Who is told may close what was looked at before.
bool Descriptors::check_watched(bool all) {
    for (unsigned before = ~told_; before != told_;) {
        before = told_;
        for (size_t i = 0; i < changed_.size(); ++i)
            if (entries_[changed_[i]].stale) tell_other(changed_[i]);
        bool own_checked = all || modifies();
        if (own_checked && !check_own()) return false;
        if (all && !check_all()) return false;
        if (all && ev_backend(loop_) & kStateless) continue;
        if (!check_changed(own_checked)) return false;
    }
    return true;
}

bool Descriptors::check_changed(bool own_checked) {
    for (size_t i = 0; i < changed_.size(); ++i) {
        int fd = changed_[i];
        struct stat status;
        Identity identity;
        if (!entries_[fd].head) continue;
        bool made = std::exchange(entries_[fd].made, false);
        bool dead = fstat(fd, &status) != 0;
        if (made && !dead && S_ISSOCK(status.st_mode)) {
            entries_[fd].device = status.st_dev;
            entries_[fd].inode = status.st_ino;
            continue;
        }
        dead = dead || verify(fd, status, identity) != 0;
        if (!dead && identity != Identity::kOther) continue;
        // Perhaps everything has been closed.
        if (!std::exchange(own_checked, true) && !check_own()) return false;
        if (dead)
            bury(fd);
        else
            register_anew(fd);
    }
    return true;
}

// One system call for many: poll tells of closed descriptors whatever it is asked for.
bool Descriptors::check_all() {
    py::Array<pollfd> polled;  // who is told may poll, too
    polled.swap(polled_);
    polled.clear();
    for (size_t fd = 0; fd < entries_.size(); ++fd)
        if (entries_[fd].head && !polled.push({static_cast<int>(fd), 0, 0})) return false;
    int found = polled.empty() ? 0 : poll(polled.begin(), polled.size(), 0);
    for (pollfd& one : polled) {
        bool gone = (found < 0 || one.revents & POLLNVAL) && is_dead(one.fd);
        if (gone || is_own(one.fd)) bury(one.fd);
    }
    polled.swap(polled_);
    return true;
}

bool Descriptors::settle_changes() {
    for (int fd : changed_) {
        Entry& entry = entries_[fd];
        entry.told = static_cast<unsigned char>(entry.events());
        entry.changed = entry.anew = entry.made = false;
    }
    changed_.clear();
    return true;
}

}  // namespace pyev::ev
