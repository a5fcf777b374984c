/*
 * What the references over streams share: epoll, reads of 256 KiB, and one send per consumer. They count nothing,
 * bound nothing, and one consumer that does not read stops them all.
 *
 * A place is a port on loopback, or the path of a unix socket.
 */
#ifndef BENCH_RELAY_H
#define BENCH_RELAY_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_SIZE = 256 * 1024, TAIL_MAX = 1024 * 1024, CONSUMERS_MAX = 1024, EVENTS = 256 };

struct source {
    int fd;
    bool greeted;
    char *tail;
    size_t tail_size;
};

static char chunk[TAIL_MAX + READ_SIZE]; /* shared by all connections; each keeps its tail only */
static struct pollfd consumers[CONSUMERS_MAX];
static size_t sent[CONSUMERS_MAX];
static int consumer_count;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static socklen_t place_of(struct sockaddr_storage *place, const char *text)
{
    memset(place, 0, sizeof *place);
    if (*text == '/') {
        struct sockaddr_un *path = (struct sockaddr_un *)place;
        path->sun_family = AF_UNIX;
        snprintf(path->sun_path, sizeof path->sun_path, "%s", text);
        return sizeof *path;
    }
    struct sockaddr_in *inet = (struct sockaddr_in *)place;
    inet->sin_family = AF_INET;
    inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    inet->sin_port = htons((uint16_t)atoi(text));
    return sizeof *inet;
}

static int connected_to(const char *text)
{
    struct sockaddr_storage place;
    socklen_t length = place_of(&place, text);
    int one = 1, room = READ_SIZE, fd = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* The usual room of a unix socket is less than a read, which would go in two parts. The kernel doubles this. */
    if (place.ss_family == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (fd < 0 || connect(fd, (struct sockaddr *)&place, length))
        die("connect");
    if (place.ss_family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Listen at *text* (port 0: any), and say where with the name of the protocol. */
static int listening_at(const char *text, const char *scheme)
{
    struct sockaddr_storage place;
    socklen_t length = place_of(&place, text);
    int fd = socket(place.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (place.ss_family == AF_UNIX)
        unlink(text);
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, length) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&place, &length))
        die("listen");
    if (place.ss_family == AF_UNIX)
        fprintf(stderr, "listen unix:%s\n", text);
    else
        fprintf(stderr, "listen %s://127.0.0.1:%d\n", scheme, ntohs(((struct sockaddr_in *)&place)->sin_port));
    return fd;
}

/* Send the same bytes to every consumer, and wait until the last of them has them. */
static void forward(const char *wire, size_t size)
{
    int waiting = consumer_count;
    for (int i = 0; i < consumer_count; i++) {
        sent[i] = 0;
        consumers[i].revents = POLLOUT;
    }
    while (waiting) {
        for (int i = 0; i < consumer_count; i++) {
            if (sent[i] == size || !consumers[i].revents)
                continue;
            ssize_t taken = send(consumers[i].fd, wire + sent[i], size - sent[i], MSG_NOSIGNAL | MSG_DONTWAIT);
            if (taken < 0 && errno != EAGAIN && errno != EINTR)
                die("send");
            if (taken > 0)
                sent[i] += (size_t)taken;
            if (sent[i] == size)
                waiting--;
        }
        if (waiting) {
            for (int i = 0; i < consumer_count; i++)
                consumers[i].events = sent[i] < size ? POLLOUT : 0;
            poll(consumers, (nfds_t)consumer_count, -1);
        }
    }
}

/* Forwards what is whole in the first *have* bytes of the chunk, and returns how many these were. */
typedef size_t take(struct source *source, size_t have);

static void read_from(struct source *source, take *take_whole)
{
    size_t kept = source->tail_size;
    memcpy(chunk, source->tail, kept);
    ssize_t got = recv(source->fd, chunk + kept, READ_SIZE, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close(source->fd);
        free(source->tail);
        free(source);
        return;
    }
    size_t have = kept + (size_t)got, whole = take_whole(source, have);
    source->tail_size = have - whole;
    if (source->tail_size > TAIL_MAX)
        die("message too long");
    source->tail = realloc(source->tail, source->tail_size + 1);
    memcpy(source->tail, chunk + whole, source->tail_size);
}

static void serve(int server, take *take_whole)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN, .data.ptr = NULL}};
    epoll_ctl(ep, EPOLL_CTL_ADD, server, &events[0]);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int count = epoll_wait(ep, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                read_from(events[i].data.ptr, take_whole);
                continue;
            }
            struct source *source = calloc(1, sizeof *source);
            source->fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            source->tail = malloc(1);
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
            if (source->fd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, source->fd, &event))
                free(source);
        }
    }
}

#endif
