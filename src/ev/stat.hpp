// Stat: a path's attributes changed.
#pragma once

#include "ev/watcher.hpp"

namespace pyev::ev {

class Stat : public WatcherOf<Stat, ev_stat, ev_stat_start, ev_stat_stop> {
 public:
    static const py::TypeInfo kType;
    static constexpr const char* kName = "pyev.Stat";
    static constexpr int kEvent = EV_STAT;
    static constexpr const char* kLeadNames[] = {"path", "interval"};
    static constexpr const char* const* kLead = kLeadNames;
    static constexpr int kLeadSize = 2;
    static constexpr int kLeadOptional = 1;  // interval

    template <class F>
    void each_ref(F f) {
        Watcher::each_ref(f);
        f(path_);
        f(encoded_);
    }
    bool configure(PyObject* const* lead);
    bool begin();
    void event(int revents);
    py::Ref describe();

    py::Ref stat();
    py::Ref get_path();
    py::Ref get_interval();
    py::Ref get_attr();
    py::Ref get_previous();

    // The type of `attr`, a struct sequence.
    static py::Ref make_result_type(PyObject* module);

 private:
    py::Ref result(const ev_statdata& data);

    py::Ref path_;         // as given
    py::Ref encoded_;      // the bytes that libev reads
    double interval_ = 0;  // as given; libev's own field has no less than 0.1
    bool looked_ = false;
    bool changed_ = false;
};

}  // namespace pyev::ev
