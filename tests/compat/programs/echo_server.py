"""The echo server of the old documentation's kind: a class per connection, signals to stop it.

Its clients run on threads, with blocking sockets.
"""

import errno
import logging
import signal
import socket
import sys
import threading
import weakref

import pyev

logging.basicConfig(stream=sys.stderr, level=logging.WARNING)

STOPSIGNALS = (signal.SIGINT, signal.SIGTERM)
NONBLOCKING = (errno.EAGAIN, errno.EWOULDBLOCK)


class Connection:
    def __init__(self, sock, address, loop):
        self.sock = sock
        self.address = address
        self.sock.setblocking(0)
        self.buf = b""
        self.watcher = pyev.Io(self.sock, pyev.EV_READ, loop, self.io_cb)
        self.watcher.start()

    def reset(self, events):
        self.watcher.stop()
        self.watcher.set(self.sock, events)
        self.watcher.start()

    def handle_error(self, msg, level=logging.ERROR, exc_info=True):
        logging.log(level, "%s: %s", self, msg, exc_info=exc_info)
        self.close()

    def handle_read(self):
        try:
            buf = self.sock.recv(1024)
        except OSError as err:
            if err.args[0] not in NONBLOCKING:
                self.handle_error(f"error reading from {self.sock}")
            return
        if buf:
            self.buf += buf
            self.reset(pyev.EV_READ | pyev.EV_WRITE)
        else:
            self.handle_error("connection closed by peer", logging.DEBUG, False)

    def handle_write(self):
        try:
            sent = self.sock.send(self.buf)
        except OSError as err:
            if err.args[0] not in NONBLOCKING:
                self.handle_error(f"error writing to {self.sock}")
            return
        self.buf = self.buf[sent:]
        if not self.buf:
            self.reset(pyev.EV_READ)

    def io_cb(self, watcher, revents):
        if revents & pyev.EV_READ:
            self.handle_read()
        elif revents & pyev.EV_WRITE:
            self.handle_write()

    def close(self):
        self.sock.close()
        self.watcher.stop()
        self.watcher = None  # the last reference to it, inside its own callback


class Server:
    def __init__(self):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(0)
        self.address = self.sock.getsockname()
        self.loop = pyev.default_loop()
        self.watchers = [pyev.Signal(sig, self.loop, self.signal_cb) for sig in STOPSIGNALS]
        self.watchers.append(pyev.Io(self.sock, pyev.EV_READ, self.loop, self.io_cb))
        self.conns = weakref.WeakValueDictionary()
        self.kept = []
        self.accepted = 0

    def handle_error(self, msg, level=logging.ERROR, exc_info=True):
        logging.log(level, "%s: %s", self, msg, exc_info=exc_info)
        self.stop()

    def signal_cb(self, watcher, revents):
        self.stop()

    def io_cb(self, watcher, revents):
        try:
            while True:
                try:
                    sock, address = self.sock.accept()
                except OSError as err:
                    if err.args[0] in NONBLOCKING:
                        break
                    raise
                connection = Connection(sock, address, self.loop)
                self.conns[address] = connection
                self.kept.append(connection)
                self.accepted += 1
        except Exception:
            self.handle_error("error accepting a connection")

    def start(self):
        self.sock.listen(socket.SOMAXCONN)
        for watcher in self.watchers:
            watcher.start()
        self.loop.start()

    def stop(self):
        self.loop.stop(pyev.EVBREAK_ALL)
        self.sock.close()
        while self.watchers:
            self.watchers.pop().stop()
        for conn in list(self.conns.values()):
            if conn.watcher is not None:
                conn.close()


def client(address, n, errors):
    try:
        for message in (b"a", b"hello " * 100, bytes([n]) * 100000):
            with socket.create_connection(address) as sock:
                sender = threading.Thread(target=sock.sendall, args=(message,))
                sender.start()
                got = b""
                while len(got) < len(message):
                    got += sock.recv(65536)
                sender.join()
                assert got == message
    except Exception as error:
        errors.append(error)


def main():
    server = Server()
    errors = []
    clients = [threading.Thread(target=client, args=(server.address, n, errors)) for n in range(8)]

    def done():
        for thread in clients:
            thread.join()
        signal.raise_signal(signal.SIGTERM)

    def begin(watcher, revents):
        for thread in clients:
            thread.start()
        waiter.start()

    waiter = threading.Thread(target=done)
    timer = server.loop.timer(0.0, 0.0, begin)
    timer.start()
    server.start()
    waiter.join()
    assert not errors, errors
    print("accepted", server.accepted)


if __name__ == "__main__":
    main()
