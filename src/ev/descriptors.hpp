// The descriptors a loop watches, checked before libev sees them.
//
// Distribution builds of libev keep their assertions: a closed descriptor in a queued change
// (epoll), in the poll set (poll), or re-armed after an event (io_uring) aborts the process. So
// every active watch on a descriptor is listed here by number, and `check` finds the dead ones
// just before libev looks. Used by one loop, on the thread that may use that.
#pragma once

#include <ev.h>
#include <poll.h>
#include <sys/stat.h>

#include <mutex>

#include "py/array.hpp"
#include "py/lock.hpp"

namespace pyev::ev {

// One watch on one descriptor, owned by a watcher and listed while active.
struct Watch {
    ev_io* io;
    void* owner;
    // The descriptor was found closed: stop the watch and report it.
    void (*dead)(Watch*);
    Watch* next;
    // The number is another file's by now; may be null. Events of that one follow.
    void (*other)(Watch*) = nullptr;
    bool waits = false;  // refused where epoll cannot wait: libev has such files always ready
    bool stale = false;  // the number is another file's, and it was not told yet
};

class Descriptors {
 public:
    // For a loop just made. `hint` is a number near which libev's wake-up descriptor lies.
    void init(struct ev_loop* loop, int hint);

    // What the caller knows of a descriptor: that his last system call on it has just succeeded, or
    // would have had to wait; or that it is a socket that he has made, and nobody watched it
    // before.
    enum class Known { kNothing, kOpen, kMade };
    // Lists `watch` and starts its ev_io. 0, or the errno of a descriptor that is closed or that
    // this backend cannot watch.
    [[nodiscard]] int start(Watch* watch, Known known = Known::kNothing);
    void stop(Watch* watch);

    // Calls `dead` for each watch whose descriptor is closed; looks at those changed since the
    // last poll, or at `all`. OSError when one that libev itself needs is gone.
    [[nodiscard]] bool check(bool all) {
        all = all || always_all_;
        return (!all && changed_.empty() && !own_changed_) || check_watched(all);
    }

    // A descriptor is about to be closed: whoever still watches it is told before the next poll.
    void closing(int fd) {
        if (static_cast<size_t>(fd) < entries_.size() && entries_[fd].head) note_change(fd);
    }

    // libev itself is about to change what the backend watches.
    void note_own_change() { own_changed_ = true; }

    // Around what makes libev open its timerfd or its inotify descriptor.
    template <class F>
    void opening_timerfd(F start) {
        opening(timerfd_, start);
    }
    template <class F>
    void opening_inotify(F start) {
        opening(inotify_, start);
    }

    // libev has taken over the changes, if there were any, and polls.
    bool polled() {
        own_changed_ = false;
        return !changed_.empty() && settle_changes();
    }

    // libev is about to make its kernel objects anew, with other numbers; and has done so.
    void rebuilding() {
        for (KernelFile* file : {&timerfd_, &inotify_})
            if (file->own.fd >= 0) list_kernel_files(file->kind, file->before);
    }
    void rebuilt();

    // Whether what ends a poll is still there; of what is not known, yes.
    // From any thread.
    bool wakeup_alive() {
        Own wakeup;
        {
            py::Hold hold(mutex_);
            wakeup = wakeup_;
        }
        return wakeup.fd < 0 || alive(wakeup);
    }

    static std::mutex opening_;  // see opening()

    int backend_fd();
    bool changed() const { return !changed_.empty(); }

 private:
    struct Entry {
        Watch* head;
        dev_t device;
        ino_t inode;
        bool socket;         // as these two say
        bool changed;        // since the last poll
        bool anew;           // libev was asked to register it anew
        bool stale;          // some watch is
        bool made;           // Known::kMade, and not looked at since
        unsigned char told;  // EV_READ and EV_WRITE, as libev last took them over
        int events() const {
            int events = 0;
            for (Watch* watch = head; watch; watch = watch->next) events |= watch->io->events;
            return events & (EV_READ | EV_WRITE);
        }
    };
    struct Own {
        int fd;
        dev_t device;
        ino_t inode;
    };
    // Opened by libev when it first needs one.
    struct KernelFile {
        const char* kind;  // as the kernel names it
        Own own = {-1, 0, 0};
        py::Array<int> before = {};  // numbers of all such, whosesoever, before libev makes another
    };

    // Nobody tells which descriptor that is: the next number is guessed, and looked at afterwards.
    // Not while another thread does the same, or each might find the other's.
    template <class F>
    void opening(KernelFile& file, F start) {
        own_changed_ = true;
        if (file.own.fd >= 0) return start();
        std::lock_guard lock(opening_);
        int number = next_number();
        start();
        settle(file, number);
    }
    static int next_number();
    void settle(KernelFile& file, int number);
    static void list_kernel_files(const char* kind, py::Array<int>& numbers);
    void settle_anew(KernelFile& file);

    enum class Identity { kSame, kAlike, kOther };

    [[nodiscard]] bool check_watched(bool all);
    [[nodiscard]] bool check_changed(bool own_checked);
    [[nodiscard]] bool check_all();
    bool settle_changes();
    [[nodiscard]] int verify(int fd, const struct stat& status, Identity& identity);
    [[nodiscard]] int try_epoll(int fd);
    void find_backend();
    void find_wakeup(int hint);
    void note_own(Own& own, int fd);
    static bool alive(const Own& own);
    bool own_alive() const;
    bool is_own(int fd) const;
    [[nodiscard]] bool check_own();
    bool modifies();
    void note_change(int fd);
    void register_anew(int fd);
    void note_other(int fd);
    void tell_other(int fd);
    void bury(int fd);

    struct ev_loop* loop_ = nullptr;
    bool always_all_ = false;  // the backend asserts on descriptors that nobody changed
    // What libev itself needs; negative while it is not known.
    Own backend_ = {-1, 0, 0}, wakeup_ = {-1, 0, 0};
    [[no_unique_address]] py::Mutex mutex_;  // of these two
    KernelFile timerfd_ = {"timerfd"}, inotify_ = {"inotify"};
    bool own_changed_ = false;
    py::Array<Entry> entries_;  // by descriptor
    py::Array<int> changed_;
    py::Array<pollfd> polled_;  // room for check_all()
    unsigned told_ = 0;         // counts who was told of anything: Python code may have run
};

}  // namespace pyev::ev
