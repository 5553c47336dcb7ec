/* libev's own benchmark with libev itself: the floor that bench/pairs.py's contenders stand on.
 * Same ring, same counting, same system calls; see there.
 *
 *     libev_bench PAIRS ACTIVE EVENTS RUNS TIMEOUTS
 */
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    ev_io io;
    ev_timer timer;
    int writer;
} Pair;

static long left, active;
static int timeouts;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void on_timeout(EV_P_ ev_timer *timer, int revents) {
    (void)timer, (void)revents, (void)loop;
    abort(); /* pushed back on each event, and never reached */
}

static void on_read(EV_P_ ev_io *io, int revents) {
    Pair *pair = (Pair *)io;
    char byte;
    (void)revents;
    if (timeouts) ev_timer_again(EV_A_ & pair->timer);
    if (read(io->fd, &byte, 1) != 1) die("read");
    left--;
    if (left >= active) {
        if (write(pair->writer, "e", 1) != 1) die("write");
    } else if (!left) {
        ev_break(EV_A_ EVBREAK_ONE);
    }
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: libev_bench PAIRS ACTIVE EVENTS RUNS TIMEOUTS\n");
        return 2;
    }
    const long pairs = atol(argv[1]), events = atol(argv[3]), runs = atol(argv[4]);
    active = atol(argv[2]);
    timeouts = atoi(argv[5]);

    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    Pair *ring = calloc((size_t)pairs, sizeof *ring);
    int(*ends)[2] = calloc((size_t)pairs, sizeof *ends);
    if (!loop || !ring || !ends) die("libev_bench");
    for (long i = 0; i < pairs; i++)
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends[i]))
            die("socketpair");
    for (long i = 0; i < pairs; i++) {
        Pair *pair = &ring[i];
        pair->writer = ends[(i + 1) % pairs][1];
        ev_io_init(&pair->io, on_read, ends[i][0], EV_READ);
        ev_timer_init(&pair->timer, on_timeout, 0., 10. + drand48());
        if (timeouts) ev_timer_again(loop, &pair->timer);
        ev_io_start(loop, &pair->io);
    }

    for (long run = 0; run <= runs; run++) {
        const long space = pairs / active;
        for (long i = 0; i < active; i++)
            if (write(ends[i * space][1], "e", 1) != 1) die("write");
        left = events;
        const double start = now();
        ev_run(loop, 0);
        const double spent = now() - start;
        if (run) printf("%s%.3f", run == 1 ? "[" : ", ", spent / (double)events);
    }
    printf("]\n");
    return 0;
}
