"""Periodic: times by the wall clock, one or every so many seconds."""

from __future__ import annotations

import math

import pytest

import pyev

INF, NAN = math.inf, math.nan
SHORTEST = 1 / 8192


@pytest.mark.every_backend
def test_interval(loop, calls):
    times = []

    def callback(watcher, revents):
        calls(watcher, revents)
        times.append((loop.now(), watcher.at))
        if len(calls) == 4:
            watcher.stop()

    periodic = loop.periodic(0.0, 1 / 64, callback)
    periodic.start()
    loop.start()
    assert calls == [(periodic, pyev.EV_PERIODIC)] * 4
    for now, following in times:
        # A multiple of the interval, and the next one.
        assert (following * 64) % 1 == pytest.approx(0.0, abs=1e-4)
        assert now < following <= now + 1 / 64 + 1e-6


def test_offset(loop):
    with loop.periodic(0.25, 1.0, print) as periodic:
        assert periodic.at % 1.0 == pytest.approx(0.25, abs=1e-6)
        assert loop.now() < periodic.at <= loop.now() + 1.0


@pytest.mark.every_backend
def test_interval_zero_is_one_absolute_time(loop, calls):
    at = pyev.time() + 0.02
    periodic = loop.periodic(at, 0.0, calls)
    periodic.start()
    assert periodic.at == at
    assert loop.start() is False
    assert loop.now() >= at
    assert calls == [(periodic, pyev.EV_PERIODIC)]
    assert not periodic.active


def test_an_absolute_time_gone_by_is_due_at_once(loop, turn, calls):
    for at in (0.0, 1.0, pyev.time() - 100):
        periodic = loop.periodic(at, 0.0, calls)
        periodic.start()
        turn()
        assert not periodic.active
    assert len(calls) == 3


def test_far_away(loop, turn, calls):
    with loop.periodic(1e18, 0.0, calls), loop.periodic(0.0, 1e15, calls):
        turn()
        loop.verify()
    assert calls == []


# Arguments


BAD = [
    (-1.0, 0.0, "offset"),
    (-0.001, 10.0, "offset"),
    (INF, 0.0, "offset"),
    (INF, 1.0, "offset"),
    (-INF, 0.0, "offset"),
    (NAN, 0.0, "offset"),
    (NAN, 1.0, "offset"),
    (1.5, 1.0, "offset"),
    (0.0, -1.0, "interval"),
    (0.0, -0.001, "interval"),
    (0.0, NAN, "interval"),
    (0.0, INF, "interval"),
    (0.0, -INF, "interval"),
    (0.0, SHORTEST / 2, "interval"),
    (0.0, SHORTEST * 0.999, "interval"),
    (0.0, 1e-300, "interval"),
]


@pytest.mark.parametrize(("offset", "interval", "name"), BAD)
def test_illegal_numbers(loop, offset, interval, name):
    with pytest.raises(ValueError, match=name):
        loop.periodic(offset, interval, print)
    periodic = loop.periodic(0.25, 1.0, print)
    with pytest.raises(ValueError, match=name):
        periodic.set(offset, interval)
    assert (periodic.offset, periodic.interval) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("offset", "interval"),
    [(0, 0), (5.0, 0.0), (0.0, SHORTEST), (SHORTEST, SHORTEST), (1.0, 1.0), (0.5, 1.0), (0, 86400)],
)
def test_legal_numbers(loop, offset, interval):
    periodic = loop.periodic(offset, interval, print)
    assert (periodic.offset, periodic.interval) == (offset, interval)
    with periodic:
        loop.verify()


@pytest.mark.parametrize("wrong", [None, "1", [], 1j])
def test_arguments_of_a_wrong_type(loop, wrong):
    with pytest.raises(TypeError):
        loop.periodic(wrong, 0.0, print)
    with pytest.raises(TypeError):
        loop.periodic(0.0, wrong, print)
    periodic = loop.periodic(0.25, 1.0, print)
    with pytest.raises(TypeError):
        periodic.offset = wrong
    with pytest.raises(TypeError):
        periodic.interval = wrong
    with pytest.raises(TypeError):
        periodic.set(wrong, 0.0)
    assert (periodic.offset, periodic.interval) == (0.25, 1.0)


# Attributes


def test_offset_and_interval_are_writable_at_any_time(loop):
    with loop.periodic(0.25, 1.0, print) as periodic:
        periodic.offset = 0.5
        assert periodic.offset == 0.5
        periodic.interval = 2.0
        assert periodic.interval == 2.0
        periodic.reset()
        assert periodic.at % 2.0 == pytest.approx(0.5, abs=1e-6)
        loop.verify()


@pytest.mark.parametrize("value", [-1.0, NAN, INF, 1.5])
def test_an_illegal_offset_is_not_taken(loop, value):
    periodic = loop.periodic(0.25, 1.0, print)
    for active in (False, True):
        with pytest.raises(ValueError, match="offset"):
            periodic.offset = value
        assert periodic.offset == 0.25
        if not active:
            periodic.start()
    periodic.stop()


@pytest.mark.parametrize("value", [-1.0, NAN, INF, SHORTEST / 2, 0.125])
def test_an_illegal_interval_is_not_taken(loop, value):
    periodic = loop.periodic(0.25, 1.0, print)
    for active in (False, True):
        with pytest.raises(ValueError, match=r"interval|offset"):
            periodic.interval = value
        assert periodic.interval == 1.0
        if not active:
            periodic.start()
    periodic.stop()


@pytest.mark.parametrize("name", ["offset", "interval"])
def test_writable_attributes_cannot_be_deleted(loop, name):
    periodic = loop.periodic(0.25, 1.0, print)
    with pytest.raises(TypeError, match=name):
        delattr(periodic, name)


def test_at_is_read_only(loop):
    periodic = loop.periodic(0.25, 1.0, print)
    with pytest.raises(AttributeError):
        periodic.at = 1.0
    assert type(periodic.at) is float


def test_set(loop, calls):
    periodic = loop.periodic(0.25, 1.0, calls)
    at = pyev.time() + 0.01
    periodic.set(at, 0.0)
    periodic.start()
    loop.start()
    assert len(calls) == 1
    assert loop.now() >= at


def test_interval_made_zero_while_active_ends_it(loop, calls):
    periodic = loop.periodic(0.0, 1 / 64, calls)
    periodic.start()
    periodic.interval = 0.0
    loop.start()
    assert len(calls) == 1
    assert not periodic.active


# reset


def test_reset_computes_anew(loop):
    with loop.periodic(0.0, 3600.0, print) as periodic:
        periodic.interval = 60.0
        assert periodic.reset() is None
        assert periodic.at - loop.now() <= 60.0
        assert periodic.active


def test_reset_starts_a_stopped_one(loop):
    periodic = loop.periodic(0.0, 3600.0, print)
    periodic.reset()
    assert periodic.active
    periodic.stop()


def test_repr(loop):
    shown = repr(loop.periodic(0.25, 1.5, print))
    assert "Periodic" in shown
    assert "0.25" in shown
    assert "1.5" in shown
