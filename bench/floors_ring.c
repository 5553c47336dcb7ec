/* The clients of the suite `scale`, and its C column: an echo server with many connections.

   There are as many messages under way as clients are active. Each goes round among its share of
   the clients: who has it back lets the next one send, so the active ones are others all the time.
   They are in a process of their own, so that a server has one descriptor for each connection, and
   its processor time is what is counted.

   floors_ring drive PORT CONNECTIONS ACTIVE     reads how many messages to pass on, line by line,
                                                 and answers with a line each time
   floors_ring CONNECTIONS:ACTIVE SIZE FOLDER SAMPLES SECONDS     the server, driven by a child */

#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 4096, SIZE = 64, TOGETHER = 64, MESSAGES = 300 };

static char buffer[64 * 1024];
static int poller;

static void put(int fd) {
    if (send(fd, buffer, SIZE, 0) != SIZE) die("send");
}

static void take(int fd) {
    if (recv(fd, buffer, sizeof buffer, 0) != SIZE) die("recv");
}

static void watch(int fd, int index) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void prepare(int descriptors) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = (rlim_t)descriptors + 100;
    if (limit.rlim_cur > limit.rlim_max) limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
    poller = epoll_create1(0);
    if (poller < 0) die("epoll_create1");
}

static void drive(int port, int count, int active) {
    static struct epoll_event events[EVENTS];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int *clients = calloc((size_t)count, sizeof *clients), one = 1, share = count / active;
    char line[32];
    if (!clients) die("calloc");
    prepare(count);
    address.sin_port = htons((uint16_t)port);
    for (int i = 0; i < count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (clients[i] < 0) die("socket");
        if (connect(clients[i], (struct sockaddr *)&address, sizeof address)) die("connect");
        setsockopt(clients[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        put(clients[i]);
        /* The server's backlog is finite: wait for it now and then. */
        if (i % TOGETHER == TOGETHER - 1 || i == count - 1)
            for (int j = i - i % TOGETHER; j <= i; j++) take(clients[j]);
        watch(clients[i], i);
    }
    puts("connected");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        long left = atol(line);
        if (left < active) left = active;
        for (int i = 0; i < active; i++) put(clients[i * share]);
        while (left) {
            int ready = epoll_wait(poller, events, EVENTS, -1);
            for (int i = 0; i < ready; i++) {
                int index = (int)events[i].data.u32;
                take(clients[index]);
                int next = (index + 1) % share ? index + 1 : index + 1 - share;
                if (--left >= active) put(clients[next]);
            }
        }
        puts("done");
        fflush(stdout);
    }
    exit(0);
}

static FILE *commands, *answers;
static int listener, said;

/* Until the clients say that they are done. */
static void serve(long messages) {
    static struct epoll_event events[EVENTS];
    char line[32];
    if (messages) fprintf(commands, "%ld\n", messages), fflush(commands);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = (int)events[i].data.u32;
            if (fd == listener) {
                int one = 1, accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (accepted < 0) die("accept");
                setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(accepted, accepted);
            } else if (fd == said) {
                if (!fgets(line, sizeof line, answers)) exit(1);
                return;
            } else {
                take(fd);
                put(fd);
            }
        }
    }
}

/* A child with pipes to it, on another core where there is one. */
static void start(int port, int count, int active) {
    int in[2], out[2], core = 0;
    if (pipe(in) || pipe(out)) die("pipe");
    if (!fork()) {
        const char *others = getenv("PYEV_BENCH_OTHER_CPUS");
        cpu_set_t set;
        CPU_ZERO(&set);
        if (others && sscanf(others, "[%d", &core) == 1) {
            CPU_SET(core, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(poller);
        drive(port, count, active);
    }
    close(in[0]);
    close(out[1]);
    commands = fdopen(in[1], "w");
    said = out[0];
    answers = fdopen(said, "r");
    watch(said, said);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int count, active, samples;
    double seconds, cpu[SAMPLES];
    if (argc == 5 && !strcmp(argv[1], "drive")) drive(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    if (argc != 6 || sscanf(argv[1], "%d:%d", &count, &active) != 2 || active < 1 || active > count)
        return fprintf(stderr, "floors_ring CONNECTIONS:ACTIVE SIZE FOLDER SAMPLES SECONDS\n"), 2;
    samples = atoi(argv[4]);
    seconds = atof(argv[5]);
    if (samples < 1 || samples > SAMPLES) return 2;
    long messages = active > MESSAGES ? active : MESSAGES;
    prepare(count);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    watch(listener, listener);
    start(ntohs(address.sin_port), count, active);
    serve(0);
    serve(MESSAGES);
    for (int i = 0; i < samples; i++) {
        long served = 0;
        double began = clock_of(CLOCK_PROCESS_CPUTIME_ID), spent;
        do {
            serve(messages);
            served += messages;
            spent = clock_of(CLOCK_PROCESS_CPUTIME_ID) - began;
        } while (spent < seconds);
        cpu[i] = (double)served / spent;
    }
    printf("{");
    show("wall", cpu, samples, ", ");
    show("cpu", cpu, samples, "}\n");
    return 0;
}
