"""tail -F: follows a log by a Stat watcher, through growth, truncation and rotation.

The log is written by a child process that is watched too.
"""

import os
import sys
import tempfile

import pyev

WRITER = """
import os, sys
path = sys.argv[1]
def wait():
    sys.stdin.readline()
def write(mode, *lines):
    with open(path, mode) as file:
        file.write("".join(line + "\\n" for line in lines))
wait(); write("a", "one")
wait(); write("a", "two", "three")
wait(); os.rename(path, path + ".1"); write("w", "four")
wait(); os.unlink(path)
wait(); write("w", "five", "six is longer")
wait(); write("w", "7")
"""


class Tail:
    def __init__(self, loop, path, line):
        self.path = path
        self.line = line
        self.position = 0
        self.inode = 0
        self.watcher = pyev.Stat(path, 0.11, loop, self.stat_cb)
        self.watcher.start()

    def stat_cb(self, watcher, revents):
        assert revents == pyev.EV_STAT
        # By number, as the old sequence was read.
        inode, size, nlink = watcher.attr[2], watcher.attr[3], watcher.attr[4]
        if not nlink:
            self.inode = self.position = 0
            self.line(None)
            return
        if inode != self.inode or size < self.position:
            self.position = 0
        self.inode = inode
        try:
            with open(self.path) as file:
                file.seek(self.position)
                for line in file.read().splitlines():
                    self.line(line)
                self.position = file.tell()
        except FileNotFoundError:
            pass  # gone since then: the next event says so


def main():
    loop = pyev.default_loop()
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, "log")
    script = os.path.join(directory, "writer.py")
    with open(script, "w") as file:
        file.write(WRITER)
    with open(path, "w"):
        pass
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(read, 0)
        os.close(write)
        os.execv(sys.executable, [sys.executable, script, path])
    os.close(read)
    # What has to be seen before the writer is told to go on.
    steps = [["one"], ["two", "three"], ["four"], [None], ["five", "six is longer"], ["7"]]
    seen = []
    ended = []

    def next_step():
        os.write(write, b"\n")

    def line(text):
        if text is None and seen and seen[-1] is None:
            return
        seen.append(text)
        expected = [text for step in steps[: line.step + 1] for text in step]
        if seen[-1] == expected[-1] and [t for t in seen if t is not None] == [
            t for t in expected if t is not None
        ]:
            line.step += 1
            if line.step < len(steps):
                next_step()
            elif ended:
                tail.watcher.stop()

    line.step = 0
    tail = Tail(loop, path, line)

    def child_cb(watcher, revents):
        watcher.stop()
        ended.append((watcher.rpid, watcher.rstatus))
        if line.step == len(steps):
            tail.watcher.stop()

    child = pyev.Child(pid, False, loop, child_cb)
    child.start()
    next_step()
    loop.start()
    os.close(write)
    assert ended == [(pid, 0)], ended
    assert tail.watcher.previous is not None
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)
    print("lines", [text for text in seen if text is not None])


if __name__ == "__main__":
    main()
