// Polls that do not wait.
#include "ev/rush.hpp"

namespace pyev::ev {

// A turn with one event takes 2 to 5 us; where the process has to sleep and be woken, 5 to 10 us
// more. If that is taken for quick all the same, one empty poll (0.2 us) comes to so many turns.
static constexpr double kQuick = 10e-6;
static constexpr int kTurns = 8;

// libev's experimental backends do more in a poll than to poll.
static constexpr unsigned kExcept = EVBACKEND_IOURING | EVBACKEND_LINUXAIO;

void Rush::init(struct ev_loop* loop) {
    loop_ = loop;
    possible_ = !(ev_backend(loop) & kExcept);
    ev_idle_init(&idle_, [](struct ev_loop*, ev_idle*, int) {});
    ev_set_priority(&idle_, EV_MINPRI);  // any event comes before
}

bool Rush::begins() {
    double now = ev_now(loop_);
    quick_ = now - last_ < kQuick ? quick_ + 1 : 0;
    last_ = now;
    if (quick_ < kTurns || !possible_) return false;
    ev_idle_start(loop_, &idle_);
    ev_unref(loop_);
    return true;
}

void Rush::stop() {
    ev_ref(loop_);
    ev_idle_stop(loop_, &idle_);
}

}  // namespace pyev::ev
