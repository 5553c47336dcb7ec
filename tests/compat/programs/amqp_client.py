"""A client of a framed protocol over one long connection, in the manner of AMQP clients.

The library takes the default loop with its own intervals and silences the warning it gets when
the application has made that loop before. It keeps heartbeats by a repeating timer that traffic
resets, reconnects by a one-shot timer that is set anew each time, and ends on a signal.
"""

import os
import signal
import socket
import struct
import warnings

import pyev

METHOD, HEARTBEAT = 1, 8


def default_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return pyev.default_loop(io_interval=0.001, timeout_interval=0.001)


def frame(kind, payload=b""):
    return struct.pack("!BI", kind, len(payload)) + payload


def frames(buffer):
    while len(buffer) >= 5:
        kind, length = struct.unpack_from("!BI", buffer)
        if len(buffer) < 5 + length:
            return
        payload = bytes(buffer[5 : 5 + length])
        del buffer[: 5 + length]
        yield kind, payload


class Broker:
    """Answers methods; hangs up on its first connections, for the client to come back."""

    def __init__(self, loop, hang_ups):
        self.loop = loop
        self.hang_ups = hang_ups
        self.heartbeats = 0
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(16)
        self.sock.setblocking(False)
        self.address = self.sock.getsockname()
        self.connections = {}
        self.accept = loop.io(self.sock, pyev.EV_READ, self.on_accept)
        self.accept.start()

    def on_accept(self, watcher, revents):
        sock, _ = self.sock.accept()
        if self.hang_ups:
            self.hang_ups -= 1
            sock.close()
            return
        sock.setblocking(False)
        watcher = self.loop.io(sock, pyev.EV_READ, self.on_read, (sock, bytearray()))
        self.connections[sock] = watcher
        watcher.start()

    def on_read(self, watcher, revents):
        sock, buffer = watcher.data
        data = sock.recv(4096)
        if not data:
            watcher.stop()
            del self.connections[sock]
            sock.close()
            return
        buffer.extend(data)
        for kind, payload in frames(buffer):
            if kind == HEARTBEAT:
                self.heartbeats += 1
                sock.sendall(frame(HEARTBEAT))
            else:
                sock.sendall(frame(METHOD, payload[::-1]))

    def close(self):
        self.accept.stop()
        self.sock.close()
        for sock, watcher in self.connections.items():
            watcher.stop()
            sock.close()


class Client:
    def __init__(self, address, heartbeat, on_open):
        self.loop = default_loop()
        self.address = address
        self.heartbeat = heartbeat
        self.on_open = on_open
        self.attempts = 0
        self.beats = 0
        self.sock = None
        self.waiting = []
        self.handle_io = self.handle_timer = None
        self.reconnect_timer = pyev.Timer(0.0, 0.0, self.loop, self.on_reconnect)
        self.reconnect_timer.start()

    # Connecting

    def on_reconnect(self, watcher, revents):
        self.attempts += 1
        self.outgoing, self.incoming = bytearray(), bytearray()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(self.address)
        events = pyev.EV_READ | pyev.EV_WRITE
        if self.handle_io is None:
            self.handle_io = pyev.Io(self.sock.fileno(), events, self.loop, self.on_event)
            self.handle_timer = pyev.Timer(
                self.heartbeat, self.heartbeat, self.loop, self.on_heartbeat
            )
        else:
            self.handle_io.set(self.sock.fileno(), events)
        self.handle_io.start()
        self.handle_timer.reset()
        self.on_open(self)

    def lost(self):
        self.handle_io.stop()
        self.handle_timer.stop()
        self.sock.close()
        self.sock = None
        del self.waiting[:]
        self.reconnect_timer.set(0.002 * self.attempts, 0.0)
        self.reconnect_timer.start()

    def close(self):
        for watcher in (self.handle_io, self.handle_timer, self.reconnect_timer):
            watcher.stop()
        self.sock.close()

    # Frames

    def call(self, payload, callback):
        self.waiting.append(callback)
        self.send(frame(METHOD, payload))

    def send(self, data):
        self.outgoing.extend(data)
        self.update(pyev.EV_READ | pyev.EV_WRITE)

    def update(self, events):
        if self.handle_io.events != events:
            self.handle_io.stop()
            self.handle_io.set(self.sock.fileno(), events)
            self.handle_io.start()

    def on_event(self, watcher, revents):
        try:
            if revents & pyev.EV_WRITE:
                sent = self.sock.send(self.outgoing)
                del self.outgoing[:sent]
                if not self.outgoing:
                    self.update(pyev.EV_READ)
            if revents & pyev.EV_READ:
                data = self.sock.recv(4096)
                if not data:
                    self.lost()
                    return
                self.handle_timer.reset()
                self.incoming.extend(data)
        except BlockingIOError:
            return
        except OSError:
            self.lost()
            return
        for kind, payload in frames(self.incoming):
            if kind == METHOD:
                self.waiting.pop(0)(payload)
            else:
                self.beats += 1

    def on_heartbeat(self, watcher, revents):
        assert revents == pyev.EV_TIMER
        self.send(frame(HEARTBEAT))


def main():
    loop = pyev.default_loop()  # the application's, before the library's
    broker = Broker(loop, hang_ups=3)
    answers = []

    def opened(client):
        for n in range(5):
            client.call(b"call %d" % n, answered)

    def answered(payload):
        answers.append(payload[::-1])

    client = Client(broker.address, 0.01, opened)
    assert client.loop is loop

    def look(watcher, revents):
        if len(answers) >= 5 and client.beats >= 3:
            watcher.stop()
            os.kill(os.getpid(), signal.SIGTERM)

    def on_signal(watcher, revents):
        watcher.stop()
        watcher.loop.stop(pyev.EVBREAK_ALL)

    check = loop.check(look)
    check.start()
    signals = [loop.signal(signum, on_signal) for signum in (signal.SIGTERM, signal.SIGINT)]
    for watcher in signals:
        watcher.start()
    more = loop.start()
    assert more is True
    for watcher in signals:
        watcher.stop()
    client.close()
    broker.close()
    assert answers == [b"call %d" % n for n in range(5)], answers
    assert broker.heartbeats >= 3
    print("attempts", client.attempts)
    print("end", loop.start(pyev.EVRUN_NOWAIT))


if __name__ == "__main__":
    main()
