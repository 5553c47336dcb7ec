"""Stat: the attributes of a path, watched."""

from __future__ import annotations

import gc
import math
import os
import pathlib
import stat

import pytest

import pyev

FIELDS = ("dev", "rdev", "ino", "size", "nlink", "mode", "uid", "gid", "atime", "mtime", "ctime")
SHORT = 0.11  # libev allows nothing below 0.1074891


@pytest.fixture(params=[pyev.EVFLAG_AUTO, pyev.EVFLAG_NOINOTIFY], ids=["inotify", "polling"])
def loop(request, new_loop):
    return new_loop(request.param)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "watched"
    path.write_text("one")
    return path


def until(loop, ready):
    while not ready():
        loop.start(pyev.EVRUN_ONCE)


# What it tells


def test_change(loop, path, calls):
    with loop.stat(path, SHORT, calls) as watcher:
        loop.start(pyev.EVRUN_NOWAIT)
        assert calls == []
        path.write_text("longer")
        until(loop, lambda: watcher.current.size == 6)
    assert calls[0] == (watcher, pyev.EV_STAT)
    assert watcher.previous.size in (0, 3)  # emptied first: two changes, told as one or two


def test_removal(loop, path, calls):
    with loop.stat(path, SHORT, calls) as watcher:
        path.unlink()
        until(loop, lambda: watcher.current.nlink == 0)
        assert watcher.previous.size == 3
    assert calls[-1] == (watcher, pyev.EV_STAT)


def test_appearance(loop, tmp_path, calls):
    path = tmp_path / "later"
    with loop.stat(path, SHORT, calls) as watcher:
        assert watcher.current.nlink == 0
        path.write_text("here")
        until(loop, lambda: watcher.current.size == 4)
        assert watcher.current.nlink == 1
    assert calls


def test_appearance_of_the_directory_above(loop, tmp_path, calls):
    path = tmp_path / "no" / "such" / "directory"
    with loop.stat(path, SHORT, calls) as watcher:
        assert watcher.current.nlink == 0
        path.mkdir(parents=True)
        until(loop, lambda: watcher.current.nlink)
    assert calls


def test_replacement_by_renaming(loop, path, tmp_path, calls):
    """As editors save: another file under the name."""
    new = tmp_path / "new"
    new.write_text("the new one")
    with loop.stat(path, SHORT, calls) as watcher:
        before = watcher.current.ino
        os.replace(new, path)
        until(loop, lambda: watcher.current.size == len("the new one"))
        assert watcher.current.ino != before
        assert watcher.current.ino == path.stat().st_ino


def test_several_changes(loop, path, calls):
    with loop.stat(path, SHORT, calls) as watcher:
        for n in range(1, 4):
            with open(path, "a") as file:
                file.write("x" * n)
            size = path.stat().st_size
            until(loop, lambda size=size: watcher.current.size == size)
    assert len(calls) >= 3


def test_several_watchers_of_one_path(loop, path, calls):
    watchers = {loop.stat(path, SHORT, calls) for _ in range(3)}
    for watcher in watchers:
        watcher.start()
    path.write_text("longer")
    until(loop, lambda: all(watcher.current.size == 6 for watcher in watchers))
    for watcher in watchers:
        watcher.stop()
    assert {watcher for watcher, _ in calls} == watchers


# The attributes it has


def test_none_before_there_is_one(loop, path):
    watcher = loop.stat(path, 0.0, print)
    assert watcher.attr is None
    assert watcher.current is None
    assert watcher.previous is None


def test_a_sequence_of_eleven(loop, path):
    watcher = loop.stat(path, 0.0, print)
    assert watcher.stat() is None
    result, real = watcher.attr, path.stat()
    assert isinstance(result, tuple)
    assert isinstance(result, pyev.StatResult)
    assert len(result) == 11
    assert all(type(item) is int for item in result)
    assert list(result) == [int(getattr(real, f"st_{name}")) for name in FIELDS]
    dev, rdev, ino, size, nlink, mode, uid, gid, atime, mtime, ctime = result
    assert size == 3
    assert stat.S_ISREG(mode)


def test_named(loop, path):
    os.utime(path, ns=(1_000_000_123_456_789, 1_100_000_987_654_321))
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    result, real = watcher.attr, path.stat()
    for name in FIELDS[:8]:
        assert getattr(result, name) == getattr(real, f"st_{name}"), name
        assert type(getattr(result, name)) is int
    for name in FIELDS[8:]:
        assert type(getattr(result, name)) is float
        assert getattr(result, name) == pytest.approx(getattr(real, f"st_{name}"), abs=1e-6)
        assert getattr(result, f"{name}_ns") == getattr(real, f"st_{name}_ns")
        assert type(getattr(result, f"{name}_ns")) is int


def test_the_result_is_read_only(loop, path):
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    with pytest.raises((AttributeError, TypeError)):
        watcher.attr.size = 1
    for name in ("attr", "current", "previous", "path", "interval"):
        with pytest.raises(AttributeError):
            setattr(watcher, name, None)
    with pytest.raises(TypeError):
        watcher.attr[0] = 1
    assert "size=3" in repr(watcher.attr)


def test_results_are_compared_and_hashed_as_tuples(loop, path):
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    first = watcher.attr
    watcher.stat()
    assert watcher.attr == first == tuple(first)
    assert hash(first) == hash(tuple(first))


def test_current_is_attr(loop, path):
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    assert watcher.current == watcher.attr
    with watcher:
        assert watcher.current == watcher.attr
        assert watcher.current.size == 3


def test_results_kept_do_not_change(loop, path, calls):
    with loop.stat(path, SHORT, calls) as watcher:
        kept = watcher.current
        path.unlink()
        until(loop, lambda: watcher.current.nlink == 0)
    assert kept.size == 3
    assert kept.nlink == 1
    assert watcher.previous == kept


def test_a_missing_file(loop, tmp_path):
    watcher = loop.stat(tmp_path / "missing", 0.0, print)
    with pytest.raises(FileNotFoundError) as caught:
        watcher.stat()
    assert "missing" in str(caught.value)
    with watcher:
        assert watcher.current.nlink == 0


def test_stat_again(loop, path):
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    path.write_text("longer")
    assert watcher.attr.size == 3
    watcher.stat()
    assert watcher.attr.size == 6
    path.unlink()
    with pytest.raises(FileNotFoundError):
        watcher.stat()


def test_a_symbolic_link_is_told_as_itself(loop, path, tmp_path):
    """libev looks with lstat()."""
    link = tmp_path / "link"
    link.symlink_to(path)
    watcher = loop.stat(link, 0.0, print)
    watcher.stat()
    assert stat.S_ISLNK(watcher.attr.mode)
    assert watcher.attr.ino == link.lstat().st_ino


# path and interval


def test_path_as_text_bytes_or_pathlike(loop, path, calls):
    class Like:
        def __fspath__(self):
            return str(path)

    assert loop.stat(str(path), 0.0, calls).path == str(path)
    assert loop.stat(os.fsencode(path), 0.0, calls).path == os.fsencode(path)
    assert loop.stat(pathlib.Path(path), 0.0, calls).path == str(path)
    assert loop.stat(Like(), 0.0, calls).path == str(path)
    for given in (str(path), os.fsencode(path), path, Like()):
        watcher = loop.stat(given, 0.0, calls)
        watcher.stat()
        assert watcher.attr.size == 3


def test_path_of_any_bytes(loop, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe odd \xc3\xa9"
    with open(name, "wb") as file:
        file.write(b"12345")
    for given in (name, os.fsdecode(name)):
        watcher = loop.stat(given, 0.0, print)
        assert watcher.path == given
        watcher.stat()
        assert watcher.attr.size == 5


@pytest.mark.parametrize("wrong", [None, 1, 1.0, [], object()])
def test_path_of_a_wrong_type(loop, path, wrong):
    with pytest.raises(TypeError):
        loop.stat(wrong, 0.0, print)
    watcher = loop.stat(path, 0.0, print)
    with pytest.raises(TypeError):
        watcher.set(wrong, 0.0)
    assert watcher.path == str(path)


@pytest.mark.parametrize("wrong", ["with\0zero", b"with\0zero"])
def test_path_with_a_zero(loop, wrong):
    with pytest.raises(ValueError, match="null"):
        loop.stat(wrong, 0.0, print)


def test_a_path_far_too_long(loop, calls):
    """libev copies parts of missing paths into 4096 bytes."""
    for length in (4095, 4096, 4097, 100000):
        watcher = loop.stat("/" + "x" * length, 0.0, calls)
        with watcher:
            assert watcher.current.nlink == 0
            loop.start(pyev.EVRUN_NOWAIT)
        with pytest.raises(OSError, match="too long"):
            watcher.stat()


def test_interval(loop, path):
    watcher = loop.stat(path, 5, print)
    assert watcher.interval == 5.0
    watcher.set(path, 7.5)
    assert watcher.interval == 7.5
    with watcher:
        assert watcher.interval == 7.5
    watcher.set(path, 0.01)  # libev makes it 0.1
    with watcher:
        assert watcher.interval == 0.01


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, -math.inf])
def test_illegal_intervals(loop, path, wrong):
    with pytest.raises(ValueError, match="interval"):
        loop.stat(path, wrong, print)
    watcher = loop.stat(path, 5.0, print)
    with pytest.raises(ValueError, match="interval"):
        watcher.set(path, wrong)
    assert watcher.interval == 5.0


def test_interval_of_a_wrong_type(loop, path):
    for wrong in (None, "1", []):
        with pytest.raises(TypeError):
            loop.stat(path, wrong, print)


def test_set_forgets_the_old_attributes(loop, path, tmp_path):
    other = tmp_path / "other"
    other.write_text("another file")
    watcher = loop.stat(path, 0.0, print)
    watcher.stat()
    watcher.set(other, 0.0)
    assert watcher.path == str(other)
    watcher.stat()
    assert watcher.attr.size == len("another file")


def test_repr(loop, path):
    assert str(path) in repr(loop.stat(path, 0.0, print))


def test_the_path_lives_as_long_as_libev_needs_it(loop, tmp_path, calls):
    """libev keeps a pointer to the characters."""
    watcher = loop.stat(f"{tmp_path}/{'x' * 50}", SHORT, calls)
    watcher.start()
    gc.collect()
    junk = ["y" * 60 + str(n) for n in range(1000)]
    (tmp_path / ("x" * 50)).write_text("here")
    until(loop, lambda: watcher.current.size == 4)
    watcher.stop()
    assert junk
    assert watcher.path == f"{tmp_path}/{'x' * 50}"
