/*
 * The yardstick: what a short C loop does with lines over tcp. It reads 256 KiB, finds the last whole line, and makes
 * one send per consumer. It counts nothing, bounds nothing, and one consumer that does not read stops them all.
 *
 *   relay HOST:PORT...        prints "listen tcp://127.0.0.1:PORT" on stderr
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 256 * 1024, TAIL_MAX = 1024 * 1024, CONSUMERS_MAX = 1024, EVENTS = 256 };

struct source {
    int fd;
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

static void read_from(struct source *source)
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
    size_t have = kept + (size_t)got;
    char *newline = memrchr(chunk, '\n', have);
    size_t whole = newline ? (size_t)(newline + 1 - chunk) : 0;
    if (whole)
        forward(chunk, whole);
    source->tail_size = have - whole;
    if (source->tail_size > TAIL_MAX)
        die("line too long");
    source->tail = realloc(source->tail, source->tail_size + 1);
    memcpy(source->tail, chunk + whole, source->tail_size);
}

static struct sockaddr_in address_of(const char *text)
{
    const char *colon = strrchr(text, ':');
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(colon ? colon + 1 : text));
    return address;
}

int main(int argc, char **argv)
{
    int one = 1, ep = epoll_create1(EPOLL_CLOEXEC), server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < argc && consumer_count < CONSUMERS_MAX; i++) {
        struct sockaddr_in address = address_of(argv[i]);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address))
            die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        consumers[consumer_count++] = (struct pollfd){.fd = fd};
    }
    struct sockaddr_in address = address_of("0");
    socklen_t length = sizeof address;
    if (bind(server, (struct sockaddr *)&address, length) || listen(server, 1024) ||
        getsockname(server, (struct sockaddr *)&address, &length))
        die("listen");
    struct epoll_event events[EVENTS] = {{.events = EPOLLIN, .data.ptr = NULL}};
    epoll_ctl(ep, EPOLL_CTL_ADD, server, &events[0]);
    fprintf(stderr, "listen tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    for (;;) {
        int count = epoll_wait(ep, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                read_from(events[i].data.ptr);
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
