"""A cron of one's own: jobs by Scheduler, Periodic and Idle, on a loop with a callback and debug.

The jobs are objects with methods for callbacks; one of them fails, and in debug mode the failure
comes out of start(), after which the loop is started again.
"""

import pyev


class Job:
    def __init__(self, cron, name, times):
        self.cron = cron
        self.name = name
        self.left = times
        self.ran = 0

    def run(self, watcher, revents):
        self.ran += 1
        self.left -= 1
        if not self.left:
            watcher.stop()
            self.cron.finished(self)


class EveryFew(Job):
    """Says itself when it is due."""

    def __init__(self, cron, name, times, step):
        Job.__init__(self, cron, name, times)
        self.step = step
        self.watcher = pyev.Scheduler(self.reschedule, cron.loop, self.run)

    def reschedule(self, watcher, now):
        return now + self.step


class OnTheTick(Job):
    def __init__(self, cron, name, times, interval):
        Job.__init__(self, cron, name, times)
        self.watcher = pyev.Periodic(0.0, interval, cron.loop, self.run)


class WhenIdle(Job):
    def __init__(self, cron, name, times):
        Job.__init__(self, cron, name, times)
        self.watcher = pyev.Idle(cron.loop, self.run)


class Failing(OnTheTick):
    def run(self, watcher, revents):
        OnTheTick.run(self, watcher, revents)
        raise ValueError(self.name)


class Cron:
    def __init__(self):
        self.batches = 0
        self.loop = pyev.Loop(callback=self.invoke, data=self, debug=True)
        self.jobs = [
            EveryFew(self, "every few", 5, 0.003),
            OnTheTick(self, "on the tick", 5, 1 / 256.0),
            WhenIdle(self, "idle", 5),
            Failing(self, "failing", 2, 1 / 128.0),
        ]

    def invoke(self, loop):
        assert loop.data is self
        assert loop.pending
        self.batches += 1
        loop.invoke()

    def finished(self, job):
        print("finished", job.name)

    def run(self):
        failures = []
        for job in self.jobs:
            job.watcher.start()
        more = True
        while more:
            try:
                more = self.loop.start()
            except ValueError as error:
                failures.append(str(error))
        return failures


def main():
    cron = Cron()
    failures = cron.run()
    assert failures == ["failing", "failing"], failures
    assert [job.ran for job in cron.jobs] == [5, 5, 5, 2]
    assert cron.batches
    assert cron.loop.pending == 0
    print("end", sum(job.ran for job in cron.jobs))


if __name__ == "__main__":
    main()
