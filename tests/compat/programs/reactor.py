"""A reactor as frameworks built them on pyev 0.9, and a load that makes it work.

Io watchers are set anew between READ and READ|WRITE as buffers fill and drain, timers come from
a pool and are set again for each use, watchers are dictionary keys, and single turns are taken
by `start(EVRUN_ONCE)` and `start(EVRUN_NOWAIT)`, also from within callbacks.
"""

import errno
import socket

import pyev


class Reactor:
    def __init__(self):
        self.loop = pyev.default_loop()
        self.streams = {}  # watcher: Stream
        self.busy = {}  # timer: function
        self.pool = []
        self.made = 0

    def start(self):
        return self.loop.start()

    def stop(self):
        self.loop.stop(pyev.EVBREAK_ALL)

    def one_tick(self):
        self.loop.start(pyev.EVRUN_ONCE)

    def poll(self):
        self.loop.start(pyev.EVRUN_NOWAIT)

    def call_later(self, delay, function):
        if self.pool:
            timer = self.pool.pop()
            timer.set(delay, 0.0)
        else:
            timer = pyev.Timer(delay, 0.0, self.loop, self._timer_cb)
            self.made += 1
        self.busy[timer] = function
        timer.start()
        return timer

    def cancel(self, timer):
        timer.stop()
        del self.busy[timer]
        self.pool.append(timer)

    def _timer_cb(self, watcher, revents):
        function = self.busy.pop(watcher)
        self.pool.append(watcher)
        function()


class Stream:
    """A socket, what waits to be written to it, and whom to tell what was read."""

    def __init__(self, reactor, sock, received):
        sock.setblocking(False)
        self.reactor = reactor
        self.sock = sock
        self.received = received
        self.buffer = bytearray()
        self.watcher = pyev.Io(sock, pyev.EV_READ, reactor.loop, self._io_cb, data=self)
        self.sets = 0
        reactor.streams[self.watcher] = self
        self.watcher.start()

    def write(self, data):
        self.buffer.extend(data)
        self._mode(pyev.EV_READ | pyev.EV_WRITE)

    def close(self):
        self.watcher.stop()
        del self.reactor.streams[self.watcher]
        self.sock.close()

    def _mode(self, events):
        if self.watcher.events != events:
            self.watcher.stop()
            self.watcher.set(self.sock, events)
            self.watcher.start()
            self.sets += 1

    def _io_cb(self, watcher, revents):
        assert watcher.data is self
        if revents & pyev.EV_WRITE:
            self._write()
        if revents & pyev.EV_READ:
            self._read()

    def _write(self):
        try:
            sent = self.sock.send(self.buffer[:4096])
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
            return
        del self.buffer[:sent]
        if not self.buffer:
            self._mode(pyev.EV_READ)

    def _read(self):
        try:
            data = self.sock.recv(4096)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
            return
        if data:
            self.received(self, data)
        else:
            self.close()


def load(reactor, pairs=10, rounds=100, size=10000):
    """Messages to and fro on each pair, far larger than a write; each is waited for by a timer."""
    finished = []
    timeouts = []

    class Player:
        def __init__(self, near, far):
            self.left = rounds
            self.have = 0
            self.timer = None
            self.far = Stream(reactor, far, lambda stream, data: stream.write(data))
            self.near = Stream(reactor, near, self.received)
            self.serve()

        def serve(self):
            self.timer = reactor.call_later(30.0, lambda: timeouts.append(self))
            self.near.write(b"x" * size)

        def received(self, stream, data):
            self.have += len(data)
            if self.have < size:
                return
            assert self.have == size
            self.have = 0
            reactor.cancel(self.timer)
            self.left -= 1
            if self.left:
                self.serve()
                return
            stream.close()
            finished.append(self)
            if len(finished) == pairs:
                # The far ends see the end of their streams first.
                reactor.call_later(0.0, reactor.stop)

    players = [Player(*socket.socketpair()) for _ in range(pairs)]
    more = reactor.start()
    assert more in (True, False)
    while reactor.streams:
        reactor.one_tick()
    assert len(finished) == pairs
    assert not timeouts
    assert reactor.made <= pairs + 1, "timers are used again"
    print("sets", sum(p.near.sets + p.far.sets for p in players) >= pairs * rounds)


def nested(reactor):
    """A callback that waits for another one by taking turns itself, as synchronous calls did."""
    depths = []
    answers = []

    def answer():
        depths.append(reactor.loop.depth)
        answers.append("answer")

    def question():
        depths.append(reactor.loop.depth)
        reactor.call_later(0.001, answer)
        while not answers:
            reactor.one_tick()
        depths.append(reactor.loop.depth)
        before = reactor.loop.iteration
        reactor.poll()
        assert reactor.loop.iteration == before + 1

    reactor.call_later(0.0, question)
    reactor.start()
    assert depths == [1, 2, 1], depths
    print("nested", depths)


def main():
    reactor = Reactor()
    assert reactor.loop.default
    load(reactor)
    nested(reactor)
    assert reactor.loop.depth == 0
    assert reactor.loop.pending == 0
    assert not reactor.busy


if __name__ == "__main__":
    main()
