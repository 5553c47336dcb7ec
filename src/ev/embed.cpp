// Embed: one loop in another.
#include "ev/embed.hpp"

#include <errno.h>

namespace pyev::ev {

using py::Ref;

Embed::Embed() : watch_{&ev_, this, dead, nullptr} {
    ev_prepare_init(&prepare_, on_prepare);
    ev_set_priority(&prepare_, EV_MINPRI);
    prepare_.data = this;
    ev_fork_init(&fork_, on_fork);
    fork_.data = this;
}

bool Embed::configure(PyObject* const* lead) {
    State* state = this->state();
    if (!state || !inactive()) return false;
    if (!PyObject_TypeCheck(lead[0], state->type<Loop>()))
        return py::raise(PyExc_TypeError, "Embed: other must be a pyev.Loop, not '%.200s'",
                         Py_TYPE(lead[0])->tp_name);
    auto* other = py::value_of<Loop>(lead[0]);
    if (!other->alive()) return false;
    if (other->descriptors().backend_fd() < 0)
        return py::raise(state->error.get(), "%R cannot be embedded", lead[0]);
    py::publish(fields_, other_, Ref::borrow(lead[0]));
    return true;
}

// Whether `outer` is `inner`, or is embedded in it at any depth.
static bool is_within(Loop* inner, Loop* outer, int depth) {
    if (inner == outer || depth > 16) return true;
    for (Watcher* watcher = inner->watchers(); watcher; watcher = watcher->next()) {
        if (watcher->kind().event != EV_EMBED || !watcher->is_active()) continue;
        Ref other = static_cast<Embed*>(watcher)->get_other();
        if (is_within(py::value_of<Loop>(other.get()), outer, depth + 1)) return true;
    }
    return false;
}

bool Embed::begin() {
    if (!other()->enter() || !other()->own()) return false;
    if (is_within(other(), owner(), 0))
        return py::raise(owner()->state().error.get(), "%R cannot be embedded in itself",
                         other_.get());
    if (!watch_backend()) return false;
    ev_prepare_start(owner()->ev(), &prepare_);
    ev_unref(owner()->ev());
    ev_fork_start(owner()->ev(), &fork_);
    ev_unref(owner()->ev());
    owner()->count_each_turn(+1);
    next_embedder_ = std::exchange(other()->embedders(), this);
    return true;
}

bool Embed::watch_backend() {
    generation_ = other()->generation();
    ev_io_set(&ev_, other()->descriptors().backend_fd(), EV_READ);
    return begin_watch(&watch_);
}

// Everything but the backend.
void Embed::unwatch_turns() {
    Embed** link = &other()->embedders();
    while (*link != this) link = &(*link)->next_embedder_;
    *link = next_embedder_;
    owner()->count_each_turn(-1);
    ev_ref(owner()->ev());
    ev_prepare_stop(owner()->ev(), &prepare_);
    ev_ref(owner()->ev());
    ev_fork_stop(owner()->ev(), &fork_);
}

void Embed::end() {
    unwatch_turns();
    owner()->descriptors().stop(&watch_);
}

void Embed::dead(Watch* watch) { static_cast<Embed*>(watch->owner)->fail(EBADF); }

// One turn of the other loop. Python code runs here.
bool Embed::turn() {
    Ref self = Ref::borrow(object()), keep = other_;
    py::Locked locked(other());
    return locked && other()->enter() && other()->own() && other()->run(EVRUN_NOWAIT);
}

void Embed::turn_or_report() {
    Ref self = Ref::borrow(object());
    Loop* loop = owner();
    if (!turn()) loop->report(self.get());
}

// Changes of the other loop reach its backend before this one polls that; and when that loop has
// made its backend anew, the new one is watched.
void Embed::on_prepare(struct ev_loop*, ev_prepare* ev, int) {
    auto* self = static_cast<Embed*>(ev->data);
    Ref keep = py::try_ref(self->object());
    if (!keep) return;
    Ref other = self->other_;
    py::Locked locked(self->other(), true);
    if (!self->is_active()) return;
    if (self->other()->descriptors().changed() || self->other()->resets()) self->turn_or_report();
    if (self->is_active()) self->refresh();
}

bool Embed::refresh() {
    if (generation_ == other()->generation()) return false;
    Ref keep = py::try_ref(object());
    if (!keep) return false;
    owner()->descriptors().stop(&watch_);
    if (watch_backend()) return true;
    unwatch_turns();
    release_hold();
    fail_with_error(owner());
    return true;
}

void Embed::on_fork(struct ev_loop*, ev_fork* ev, int) {
    auto* self = static_cast<Embed*>(ev->data);
    if (self->owner()->forked()) (void)self->other()->reset();
}

void Embed::event(int revents) {
    if (revents & EV_ERROR) return fail(0);
    if (!(revents & EV_READ)) return deliver(revents);
    if (callback_ && callback_.get() != Py_None)
        deliver(EV_EMBED);
    else
        turn_or_report();
}

Ref Embed::sweep() {
    if (!turn()) return {};
    return Ref::none();
}

Ref Embed::describe() {
    Ref other = py::read(fields_, other_);
    return Ref::steal(PyUnicode_FromFormat("other=%R", other ? other.get() : Py_None));
}

Ref Embed::get_other() { return other_ ? other_ : Ref::none(); }

static PyMethodDef methods[] = {
    py::fast<&Watcher::set>("set", R"(set($self, /, other)
--

Embed another loop from the next start() on. Raises Error while active, and as Embed().)"),
    py::noargs<&Embed::sweep>("sweep", R"(sweep($self, /)
--

Let the embedded loop take one turn without waiting, as its start(EVRUN_NOWAIT) would.

Raises Error when either loop is closed. libev manual: ev_embed_sweep.)"),
    {nullptr, nullptr, 0, nullptr},
};

static PyGetSetDef getset[] = {
    py::get<&Embed::get_other, py::Guard::kNone>(
        "other", R"(The embedded Loop. Read-only: set() changes it.)"),
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const py::TypeInfo Embed::kType = {
    kName, R"(Embed(other, loop, callback=None, data=None, priority=0, *, keepalive=True)
--

Runs the loop `other` inside `loop`: when one of other's descriptors is ready, it takes a turn.

other: a Loop whose backend is among embeddable_backends(). With a callback, callback(watcher,
EV_EMBED) is called instead and calls sweep() itself. Timers of `other` are looked at in these
turns only. Raises Error when `other` is closed or its backend cannot be embedded, TypeError for
what is no Loop; start() raises Error when `other` is `loop` or has it embedded in itself, and
RuntimeError when it is an EventLoop's: that runs by itself.
libev manual: "ev_embed - when one backend isn't enough...".)",
    methods, getset};

}  // namespace pyev::ev
