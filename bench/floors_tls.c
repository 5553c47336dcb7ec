/* The TLS rows of asyncio's table in C: both ends in one thread on epoll, on OpenSSL directly, by
   its own BIOs on the sockets and with its read-ahead on. What a loop can come near to.

   floors_tls echo|bulk|gathered|handshake|idle SIZE FOLDER SAMPLES SECONDS

   echo: round trips, on ten connections with one message under way on each. bulk: MiB in writes of
   that size, on one. gathered: the same, but the records of a write leave in one send and come in
   large pieces. handshake: connections, each aborted by its client once both ends have made it, one
   after the other. idle: so many connections, in MiB of memory that both ends take when they have
   given back their buffers. The certificate is the rows', and so are the ciphers: OpenSSL's first choice. */

#define _GNU_SOURCE
#include "floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 10, MOST = 1000, EVENTS = 64, ROOM = 256 * 1024, MIB = 1 << 20, GATHERED = 70 * 1024 };

struct end {
    int fd;
    SSL *ssl;
    int client, made;
    size_t received;
    long left;
};

static struct end ends[2 * MOST], listener;
static int poller;
static int gathers, idles;
static int running; /* echo: clients that are not done */
static long left;   /* bulk: bytes that have not come; handshake: connections that have not gone */
static size_t size;
static char message[ROOM], buffer[ROOM];
static SSL_CTX *contexts[2]; /* the server's, the client's */
static struct sockaddr_in address;

static void fail(const char *what) {
    ERR_print_errors_fp(stderr);
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void make_contexts(const char *folder) {
    char authority[4096], certificate[4096];
    snprintf(authority, sizeof authority, "%s/authority.pem", folder);
    snprintf(certificate, sizeof certificate, "%s/certificate.pem", folder);
    for (int i = 0; i < 2; i++) {
        SSL_CTX *context = contexts[i] = SSL_CTX_new(i ? TLS_client_method() : TLS_server_method());
        if (!context) fail("SSL_CTX_new");
        SSL_CTX_set_read_ahead(context, 1);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
        if (idles) SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
        if (gathers) SSL_CTX_set_default_read_buffer_len(context, GATHERED);
    }
    if (SSL_CTX_use_certificate_chain_file(contexts[0], certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(contexts[0], certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(contexts[1], authority, NULL) != 1)
        fail(certificate);
    SSL_CTX_set_verify(contexts[1], SSL_VERIFY_PEER, NULL);
}

static void watch(struct end *end, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, end->fd, &event)) die("epoll_ctl");
}

/* Whether OpenSSL has only to wait; it is no failure then. */
static int must_wait(struct end *end, int result) {
    int error = SSL_get_error(end->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static int made(struct end *end) {
    if (!end->made) {
        int result = SSL_do_handshake(end->ssl);
        if (result != 1 && !must_wait(end, result)) fail("handshake");
        end->made = result == 1;
    }
    return end->made;
}

/* An end begins, on a connected socket that does not block. */
static void begin(struct end *end, int fd, int client, uint32_t events) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *end = (struct end){.fd = fd, .client = client, .ssl = SSL_new(contexts[client])};
    if (!end->ssl || SSL_set_fd(end->ssl, fd) != 1) fail("SSL_new");
    if (gathers) {
        BIO *gathering = BIO_new(BIO_f_buffer());
        if (!gathering || BIO_set_write_buffer_size(gathering, GATHERED) != 1) fail("BIO_f_buffer");
        SSL_set0_wbio(end->ssl, BIO_push(gathering, BIO_new_socket(fd, BIO_NOCLOSE)));
    }
    if (client) {
        SSL_set_connect_state(end->ssl);
        if (SSL_set1_host(end->ssl, "localhost") != 1) fail("SSL_set1_host");
        SSL_set_tlsext_host_name(end->ssl, "localhost");
    } else {
        SSL_set_accept_state(end->ssl);
    }
    watch(end, events);
    if (client) made(end); /* it has the first word */
}

static int connect_client(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    /* A listener on this machine takes it at once. */
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    return fd;
}

static int accept_client(void) {
    int fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) die("accept");
    return fd;
}

static void put(struct end *end, const char *data, size_t length) {
    while (length) { /* the kernel takes a message whole */
        int put = SSL_write(end->ssl, data, (int)length);
        if (put <= 0) fail("SSL_write");
        data += put;
        length -= (size_t)put;
    }
}

/* What has come: a record at a time, and no call that the kernel has nothing for. */
static int get(struct end *end) {
    int got = SSL_read(end->ssl, buffer, ROOM);
    if (got <= 0 && !must_wait(end, got)) fail("SSL_read");
    return got;
}

static void echo_ready(struct end *end, uint32_t events) {
    (void)events;
    do {
        int got = get(end);
        if (got <= 0) return;
        if (!end->client) {
            put(end, buffer, (size_t)got);
            continue;
        }
        end->received += (size_t)got;
        if (end->received < size) continue;
        if (end->received > size) fail("more than was sent");
        end->received = 0;
        if (--end->left)
            put(end, message, size);
        else
            running--;
    } while (SSL_has_pending(end->ssl));
}

static void bulk_ready(struct end *end, uint32_t events) {
    if (end->client && events & EPOLLOUT && end->left) {
        /* One write a turn: what the server reads is in the processor's cache then. */
        int put = SSL_write(end->ssl, message + end->received, (int)(size - end->received));
        if (put <= 0 && !must_wait(end, put)) fail("SSL_write");
        if (put > 0 && (end->received += (size_t)put) == size) {
            end->received = 0;
            end->left--;
            (void)BIO_flush(SSL_get_wbio(end->ssl)); /* the kernel takes a write whole */
        }
    }
    if (!(events & EPOLLIN)) return;
    do {
        int got = get(end);
        if (got <= 0) return;
        left -= got;
    } while (SSL_has_pending(end->ssl));
}

static void drop(struct end *end) {
    SSL_free(end->ssl);
    close(end->fd);
}

static void handshake_ready(struct end *end, uint32_t events) {
    (void)events;
    if (end == &listener) {
        begin(&ends[0], accept_client(), 0, EPOLLIN);
        return;
    }
    if (end->made && !end->client) { /* the client has gone */
        int got = SSL_read(end->ssl, buffer, ROOM);
        if (got > 0) fail("data");
        drop(end);
        if (--left) begin(&ends[1], connect_client(), 1, EPOLLIN);
        return;
    }
    if (end->made) return; /* session tickets; they are not read */
    if (made(end) && ends[0].made && ends[1].made) drop(&ends[1]);
}

static void turn(void (*ready)(struct end *, uint32_t)) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, -1);
    if (count < 0) die("epoll_wait");
    for (int i = 0; i < count; i++) ready(events[i].data.ptr, events[i].events);
}

static void connect_all(int from, int to, uint32_t events) {
    for (int i = from; i < to; i++) {
        struct end *server = &ends[2 * i], *client = &ends[2 * i + 1];
        begin(client, connect_client(), 1, EPOLLIN | events);
        begin(server, accept_client(), 0, EPOLLIN);
        while (!made(client) | !made(server)) {
        }
    }
}

static void echo(long turns) {
    for (int i = 0; i < CONNECTIONS; i++) {
        struct end *client = &ends[2 * i + 1];
        client->left = turns;
        running++;
        put(client, message, size);
    }
    while (running) turn(echo_ready);
}

static void bulk(long turns) {
    left = turns * (long)size;
    ends[1].left = turns;
    while (left > 0) turn(bulk_ready);
    if (left) fail("more than was sent");
}

static void handshakes(long turns) {
    left = turns;
    begin(&ends[1], connect_client(), 1, EPOLLIN);
    while (left) turn(handshake_ready);
}

/* MiB that are this process's alone. */
static double resident(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long size = 0;
    if (!file) die("smaps_rollup");
    while (fgets(line, sizeof line, file)) sscanf(line, "Anonymous: %ld", &size);
    fclose(file);
    return (double)size / 1024;
}

static int idle(int count) {
    int warm = count / 10;
    connect_all(0, warm, 0);
    double before = resident();
    connect_all(warm, warm + count, 0);
    for (int i = 0; i < warm + count; i++) get(&ends[2 * i + 1]); /* session tickets */
    double rate = count / (resident() - before);
    printf("{");
    show("wall", &rate, 1, ", ");
    show("cpu", &rate, 1, "}\n");
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "floors_tls WHAT SIZE FOLDER SAMPLES SECONDS\n"), 2;
    int samples = atoi(argv[4]);
    double seconds = atof(argv[5]);
    socklen_t length = sizeof address;
    size = (size_t)atol(argv[2]);
    if (size < 1 || size > 64 * 1024) return 2;
    memset(message, 'x', size);
    gathers = !strcmp(argv[1], "gathered");
    idles = !strcmp(argv[1], "idle");
    make_contexts(argv[3]);
    poller = epoll_create1(0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener.fd < 0 || bind(listener.fd, (struct sockaddr *)&address, length) ||
        listen(listener.fd, CONNECTIONS) || getsockname(listener.fd, (struct sockaddr *)&address, &length))
        die("listen");
    if (!strcmp(argv[1], "echo")) {
        connect_all(0, CONNECTIONS, 0);
        return measure(echo, CONNECTIONS, samples, seconds);
    }
    if (gathers || !strcmp(argv[1], "bulk")) {
        connect_all(0, 1, EPOLLOUT);
        return measure(bulk, (double)size / MIB, samples, seconds);
    }
    if (idles) return size > MOST * 9 / 10 ? 2 : idle((int)size);
    watch(&listener, EPOLLIN);
    return measure(handshakes, 1, samples, seconds);
}
