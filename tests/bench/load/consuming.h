/* Consumers: where they listen, the connections that they accept, and reading from these. */
#ifndef BENCH_LOAD_CONSUMING_H
#define BENCH_LOAD_CONSUMING_H

#include "taking.h"

static uint64_t now_if_timed(double now)
{
    return options.rate > 0 && head_size == TIMED_HEAD ? (uint64_t)((now - started) * 1e9) : 0;
}

static void consume(struct connection *connection)
{
    struct consumer *consumer = connection->consumer;
    size_t kept = connection->tail_size;
    char *at = memcpy(chunk - kept, connection->tail, kept);
    ssize_t got = recv(connection->fd, chunk, READ_SIZE, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        consumer->torn += kept || connection->skip;
        close(connection->fd);
        free(connection->tail);
        free(connection);
        return;
    }
    double now = seconds();
    uint64_t since_start = now_if_timed(now);
    char *end = chunk + got;
    if (!connection->greeted)
        at = connection->wire == WS ? take_request(connection, at, end) : recognize(connection, at);
    if (connection->greeted) {
        uint64_t left = (uint64_t)(end - at), skipped = connection->skip < left ? connection->skip : left;
        connection->skip -= skipped;
        at = take_messages(connection, at + skipped, end, since_start);
    }
    connection->tail_size = (size_t)(end - at);
    memcpy(connection->tail, at, connection->tail_size);
    consumer->last = last_progress = now;
}

static void consume_datagrams(struct consumer *consumer)
{
    size_t room = message_size + 1; /* one more, to see that there is more */
    struct mmsghdr slots[DATAGRAMS] = {0};
    struct iovec rooms[DATAGRAMS];
    for (int i = 0; i < DATAGRAMS; i++) {
        rooms[i] = (struct iovec){chunk + (size_t)i * room, room};
        slots[i].msg_hdr = (struct msghdr){.msg_iov = &rooms[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(consumer->listening, slots, DATAGRAMS, 0, NULL);
    double now = seconds();
    uint64_t since_start = now_if_timed(now);
    for (int i = 0; i < got; i++)
        enter_line(consumer, rooms[i].iov_base, slots[i].msg_len, since_start);
    if (got > 0)
        consumer->last = last_progress = now;
}

static void adopt(struct consumer *consumer, int fd)
{
    consumer->connections++;
    struct connection *connection = calloc(1, sizeof *connection);
    *connection = (struct connection){.kind = CONNECTION, .wire = consumer->wire, .fd = fd, .consumer = consumer};
    connection->greeted = consumer->wire != WS && consumer->wire != TCP;
    connection->tail = malloc(tail_room);
    if (consumer->stalled) { /* open, and not read */
        connection->next_frozen = frozen;
        frozen = connection;
    } else {
        watch(fd, EPOLLIN, connection);
    }
}

static void take_connection(struct consumer *consumer)
{
    int fd = accept4(consumer->listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        adopt(consumer, fd);
}

union place {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_un unix_socket;
};

static socklen_t place_of(union place *place, enum wire wire, int port)
{
    if (wire == UNIX) {
        const char *folder = getenv("TMPDIR");
        place->unix_socket = (struct sockaddr_un){.sun_family = AF_UNIX};
        snprintf(place->unix_socket.sun_path, sizeof place->unix_socket.sun_path, "%s/producer-pool-bench-%d",
                 folder && *folder ? folder : "/tmp", port);
        return sizeof place->unix_socket;
    }
    place->inet = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return sizeof place->inet;
}

static int socket_type(enum wire wire) { return wire == UDP ? SOCK_DGRAM : SOCK_STREAM; }

static int listen_anywhere(enum wire wire, int *port, unsigned index)
{
    union place place;
    int wanted = wire == UNIX ? (int)(getpid() + ((pid_t)index << 22)) : 0; /* a pid has 22 bits */
    socklen_t length = place_of(&place, wire, wanted);
    if (wire == UNIX)
        unlink(place.unix_socket.sun_path); /* of a process that had this id before */
    int fd = socket(place.any.sa_family, socket_type(wire) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &place.any, length) || getsockname(fd, &place.any, &length) ||
        (wire != UDP && listen(fd, 128)))
        die("listen");
    /* What is under way may lie at one consumer, and a quarter of the room is given back late: udp_rmem_release(). */
    int room = 1024 * 1024;
    if (wire == UDP && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room))
        die("SO_RCVBUF");
    *port = wire == UNIX ? wanted : ntohs(place.inet.sin_port);
    return fd;
}

#endif
