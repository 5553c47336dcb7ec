/* The echo rows of asyncio's table in C: both ends in one thread on epoll, nothing but the system
   calls. What a loop can come near to.

   floors tcp|unix|udp SIZE FOLDER SAMPLES SECONDS

   Prints round trips per second, as bench/row.py does. Ten connections, one message under way on
   each: whoever has received it whole sends the next. */

#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECTIONS = 10, EVENTS = 64, ROOM = 256 * 1024 };

struct end {
    int fd;
    int client;
    size_t received;
    long left;
};

static struct end ends[2 * CONNECTIONS];
static int ended;
static int poller;
static int running; /* clients that are not done */
static size_t size;
static char message[ROOM], buffer[ROOM];

static void put(int fd, const char *data, size_t length) {
    if (send(fd, data, length, 0) != (ssize_t)length) die("send"); /* the kernel takes a message whole */
}

static void watch(int fd, int client) {
    struct end *end = &ends[ended++];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    end->fd = fd;
    end->client = client;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void stream_ready(struct end *end) {
    ssize_t got = recv(end->fd, buffer, ROOM, 0);
    if (got <= 0) die("recv");
    if (!end->client) {
        put(end->fd, buffer, (size_t)got);
        return;
    }
    end->received += (size_t)got;
    if (end->received < size) return;
    if (end->received > size) die("more than was sent");
    end->received = 0;
    if (--end->left)
        put(end->fd, message, size);
    else
        running--;
}

static void datagram_ready(struct end *end) {
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(end->fd, buffer, ROOM, 0, (struct sockaddr *)&from, &length);
    if (got != (ssize_t)size) die("recvfrom");
    if (!end->client) {
        if (sendto(end->fd, buffer, size, 0, (struct sockaddr *)&from, length) != got) die("sendto");
    } else if (--end->left)
        put(end->fd, message, size);
    else
        running--;
}

static void run(long turns, void (*ready)(struct end *)) {
    struct epoll_event events[EVENTS];
    for (int i = 0; i < ended; i++)
        if (ends[i].client) {
            ends[i].left = turns;
            running++;
            put(ends[i].fd, message, size);
        }
    while (running) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        if (count < 0) die("epoll_wait");
        for (int i = 0; i < count; i++) ready(events[i].data.ptr);
    }
}

static void connect_streams(int family, struct sockaddr *address, socklen_t length) {
    int listener = socket(family, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, address, length) || listen(listener, CONNECTIONS)) die("listen");
    getsockname(listener, address, &length);
    for (int i = 0; i < CONNECTIONS; i++) {
        int client = socket(family, SOCK_STREAM, 0), one = 1;
        if (client < 0 || connect(client, address, length)) die("connect");
        int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (server < 0) die("accept");
        if (family == AF_INET) {
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        }
        watch(server, 0);
        watch(client, 1);
    }
}

static void connect_datagrams(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    int server = socket(AF_INET, SOCK_DGRAM, 0);
    if (server < 0 || bind(server, (struct sockaddr *)address, length)) die("bind");
    getsockname(server, (struct sockaddr *)address, &length);
    watch(server, 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        int client = socket(AF_INET, SOCK_DGRAM, 0);
        if (client < 0 || connect(client, (struct sockaddr *)address, length)) die("connect");
        watch(client, 1);
    }
}

static void echo(long turns) { run(turns, stream_ready); }

static void exchange(long turns) { run(turns, datagram_ready); }

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "floors tcp|unix|udp SIZE FOLDER SAMPLES SECONDS\n"), 2;
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int samples = atoi(argv[4]);
    double seconds = atof(argv[5]);
    size = (size_t)atol(argv[2]);
    if (size < 1 || size > 64 * 1024) return 2;
    poller = epoll_create1(0);
    memset(message, 'x', size);
    if (!strcmp(argv[1], "udp")) {
        connect_datagrams(&inet);
        return measure(exchange, CONNECTIONS, samples, seconds);
    }
    if (!strcmp(argv[1], "tcp")) {
        connect_streams(AF_INET, (struct sockaddr *)&inet, sizeof inet);
    } else {
        struct sockaddr_un local = {.sun_family = AF_UNIX};
        int length = snprintf(local.sun_path, sizeof local.sun_path, "%s/%d", argv[3], (int)getpid());
        if (length >= (int)sizeof local.sun_path) return 2;
        connect_streams(AF_UNIX, (struct sockaddr *)&local, sizeof local);
    }
    return measure(echo, CONNECTIONS, samples, seconds);
}
