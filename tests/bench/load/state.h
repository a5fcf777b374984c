/* What the load is told, and what it knows: of consumers and their connections, of producers, and of the run. */
#ifndef BENCH_LOAD_STATE_H
#define BENCH_LOAD_STATE_H

#include "../message.h"
#include "../peers.h"
#include "../websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, READ_SIZE = 256 * 1024, EVENTS = 256, BUCKETS = 64 * 32, DATAGRAMS = 64, REACH_MOST = 16 };

enum wire { TCP, UNIX, WS, UDP, NATS, MQTT, ZMTP, RECORDS, WIRES };

static struct {
    unsigned producers, consumers, stall, batch;
    size_t size;
    uint64_t count, window;
    double rate, duration, bound, idle, linger;
    bool ceiling, consume, thaw;
    unsigned quiet;
    enum wire wire, reach[REACH_MOST];
    unsigned reach_count;
} options = {.producers = 1, .consumers = 1, .batch = 1, .size = 128, .bound = 60, .idle = 5, .linger = 0.1};

enum kind { LISTENER, RECEIVER, CONNECTION, PRODUCER, TIMER, STDIN };

struct consumer {
    enum kind kind;
    enum wire wire;
    int listening;
    unsigned connections;
    uint64_t torn;
    double last;
    bool stalled;
    struct ledger ledger;
};

struct connection {
    enum kind kind;
    enum wire wire;
    int fd;
    struct consumer *consumer;
    char *tail;
    size_t tail_size;
    bool overlong; /* inside a line that is too long already: drop it up to its newline */
    bool greeted;  /* the handshake of a websocket is done */
    struct connection *next_frozen;
    uint64_t skip; /* bytes to come of a frame that is wrong already */
};

struct producer {
    enum kind kind;
    int fd;
    unsigned conn;
    bool writable, broken;
    uint64_t made, limit;
    char *out;
    size_t out_size, out_sent;
};

struct timer {
    enum kind kind;
    int fd;
};

static int ep;
static struct timer timer = {.kind = TIMER};
static enum kind standard_input = STDIN;
static bool told;                   /* the line on stdin is there */
static struct consumer *consumers;
static struct producer *producers;
static unsigned producer_count;
static char *chunk;                 /* what was read, shared by all connections; there is room for a tail before it */
static size_t tail_room;
static struct envelope outgoing;    /* what producers write around a message */
static struct envelope incoming[WIRES];
static size_t stride;               /* bytes from a message on the wire to the next one */
static char mask[4];                /* of all frames of producers: fresh in each run */
static uint64_t made, batches, latencies[BUCKETS];
static double started, last_progress;
static bool stopped;                /* the duration is over: what was made must still arrive */
static unsigned resets;
static struct connection *frozen;   /* those of stalled consumers, not read so far */
static const double THAWED = 0.5;   /* seconds without anything from a consumer that did not read: it has all */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec at;
    if (clock_gettime(clock, &at))
        return 0;
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static double seconds(void) { return (double)nanoseconds(CLOCK_MONOTONIC) / 1e9; }

static void watch(int fd, uint32_t events, void *source)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

#endif
