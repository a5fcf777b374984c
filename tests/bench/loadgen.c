/*
 * Load generator and verifying consumers in one process and one thread, so that a relay has the other core to itself.
 *
 *   stdout  {"event": "listening", "ports": [...]}      one port a consumer; stalled ones come last
 *   stdin   relay HOST:PORT PID                          where producers connect, and whose CPU clock is read
 *   stdout  {"event": "start"}                           the first message is about to be written
 *   stdout  {"event": "end"}                             nothing is under way any more, or the bound of time is reached
 *   stdout  {"event": "result", ...}                     what each consumer got, and what it cost
 *
 * --ceiling and --consume skip the line on stdin: the first sends straight to its own consumers, the second
 * only consumes what some other process sends.
 *
 * --wire says what messages are on the wire: tcp and unix are lines, ws a websocket text frame each, udp a datagram
 * each. With unix, port N is the socket producer-pool-bench-N in the folder for temporary files. With nats and mqtt,
 * producers publish to the relay and consumers subscribe there; they have no ports. --reach tcp,ws,... names the wires
 * of the consumers in turn, where they are not the producers'. One that takes lines also takes ZMTP and the records of
 * Python's logging, which it tells by their first byte.
 *
 * --quiet opens so many more connections that never say anything. --thaw reads what stalled consumers have left once
 * all others are through, so that their ledgers tell what never reached them.
 */
#define _GNU_SOURCE
#include "message.h"
#include "peers.h"
#include "websocket.h"

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

/* ---- consumers ---- */

static void note_latency(const char *message, uint64_t since_start)
{
    uint64_t sent = decode_digits(message + 8, 8), value = since_start > sent ? since_start - sent : 1;
    int top = 63 - __builtin_clzll(value | 32);
    latencies[(size_t)(top - 5) * 32 + ((value >> (top - 5)) & 31)]++;
}

static double latency_at(double share)
{
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        total += latencies[i];
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += latencies[i]) && (double)seen >= share * (double)total)
            return (double)((uint64_t)(32 + i % 32) << (i / 32)) / 1e3;
    return 0;
}

static void enter_line(struct consumer *consumer, const char *line, size_t size, uint64_t since_start)
{
    if (size != message_size) {
        consumer->ledger.corrupt++;
        return;
    }
    ledger_enter(&consumer->ledger, line);
    if (since_start)
        note_latency(line, since_start);
}

/* Take whole lines; return where the first one begins that is not whole. */
static char *take_lines(struct connection *connection, char *at, char *end, uint64_t since_start)
{
    while (at < end) {
        char *first = at;
        if (!connection->overlong)
            at = ledger_enter_run(&connection->consumer->ledger, at, end);
        for (char *one = first; since_start && one < at; one += message_size + 1)
            note_latency(one, since_start);
        if (at > first)
            continue;
        char *newline = memchr(at, '\n', (size_t)(end - at));
        if (!newline)
            break;
        if (connection->overlong)
            connection->overlong = false;
        else
            enter_line(connection->consumer, at, (size_t)(newline - at), since_start);
        at = newline + 1;
    }
    if ((size_t)(end - at) > message_size && !connection->overlong) {
        connection->consumer->ledger.corrupt++;
        connection->overlong = true;
    }
    return connection->overlong ? end : at;
}

/* The same for frames. What is no masked text of the right size, and nothing that a websocket has to say, is corrupt. */
static char *take_frames(struct connection *connection, char *at, const char *end, uint64_t since_start)
{
    struct frame frame;
    while (at < end) {
        uint64_t left = (uint64_t)(end - at), skipped = connection->skip < left ? connection->skip : left;
        connection->skip -= skipped;
        at += skipped;
        if (!ws_read_head(at, (size_t)(end - at), &frame))
            break;
        bool text = frame.first == WS_TEXT && frame.size == message_size;
        bool control = frame.first >= WS_CLOSE && frame.first <= WS_PONG && frame.size <= WS_CONTROL_MOST;
        if (!frame.key || (!text && !control)) {
            connection->consumer->ledger.corrupt++;
            connection->skip = frame.head + frame.size;
            continue;
        }
        if ((uint64_t)(end - at) < frame.head + frame.size)
            break;
        char *payload = at + frame.head;
        ws_mask(payload, payload, frame.size, frame.key);
        at = payload + frame.size;
        if (text) {
            enter_line(connection->consumer, payload, message_size, since_start);
        } else if (frame.first == WS_PING) {
            char pong[WS_HEAD_MOST + WS_CONTROL_MOST];
            size_t head = ws_head(pong, WS_PONG, frame.size, NULL);
            memcpy(pong + head, payload, frame.size);
            send(connection->fd, pong, head + frame.size, MSG_NOSIGNAL); /* if it is gone, the next read tells */
        }
    }
    return at;
}

/* What cannot be understood ends all understanding of this connection. */
static char *give_up(struct connection *connection, char *end)
{
    connection->consumer->ledger.corrupt++;
    connection->skip = UINT64_MAX;
    return end;
}

static size_t take_aside(struct connection *connection, const char *at, size_t have)
{
    size_t size = connection->wire == NATS ? nats_aside(at, have) : short_aside(at, have);
    if (connection->wire == NATS && size == 6 && !memcmp(at, "PING", 4))
        send(connection->fd, "PONG\r\n", 6, MSG_NOSIGNAL); /* if it is gone, the next read tells */
    if (connection->wire == ZMTP && size)
        send(connection->fd, ZMTP_SUBSCRIBE, sizeof ZMTP_SUBSCRIBE - 1, MSG_NOSIGNAL);
    return size;
}

/* Take messages that stand each in its envelope, and what a broker or ZMTP says besides. */
static char *take_enveloped(struct connection *connection, char *at, char *end, uint64_t since_start)
{
    const struct envelope *around = &incoming[connection->wire];
    size_t whole = around->before_size + message_size + around->after_size;
    while (at < end) {
        size_t have = (size_t)(end - at);
        if (*at != around->before[0]) {
            size_t size = take_aside(connection, at, have);
            if (!size)
                return have < tail_room ? at : give_up(connection, end);
            at += size;
            continue;
        }
        if (have < whole)
            break;
        if (memcmp(at, around->before, around->before_size) ||
            memcmp(at + whole - around->after_size, around->after, around->after_size))
            return give_up(connection, end);
        enter_line(connection->consumer, at + around->before_size, message_size, since_start);
        at += whole;
    }
    return at;
}

/* Take the records of Python's logging. */
static char *take_records(struct connection *connection, char *at, char *end, uint64_t since_start)
{
    while (end - at >= 4) {
        uint32_t size;
        memcpy(&size, at, 4);
        size = ntohl(size);
        if (size > tail_room - 4)
            return give_up(connection, end);
        if ((size_t)(end - at) < 4 + (size_t)size)
            break;
        const char *text = text_in_record(at + 4, size);
        if (text)
            enter_line(connection->consumer, text, message_size, since_start);
        else
            connection->consumer->ledger.corrupt++;
        at += 4 + size;
    }
    return at;
}

/* Programs that embed a library reach the same consumers over ZMTP or with records: no line begins as these do. */
static char *recognize(struct connection *connection, char *at)
{
    connection->greeted = true;
    if ((unsigned char)*at == ZMTP_FIRST) {
        connection->wire = ZMTP;
        connection->skip = ZMTP_GREETING;
        send(connection->fd, ZMTP_HELLO, sizeof ZMTP_HELLO - 1, MSG_NOSIGNAL);
    } else if (*at == 0) {
        connection->wire = RECORDS;
    }
    return at;
}

/* Answer the request of a websocket once it is whole, and return where it ends. */
static char *take_request(struct connection *connection, char *at, char *end)
{
    char request[WS_REQUEST_MOST + 1], answer[WS_ANSWER_MOST];
    size_t have = (size_t)(end - at);
    char *empty = memmem(at, have, "\r\n\r\n", 4);
    if (!empty && have < WS_REQUEST_MOST)
        return at;
    size_t size = empty ? (size_t)(empty - at) + 2 : 0, answered = 0;
    if (size && size <= WS_REQUEST_MOST) {
        memcpy(request, at, size);
        request[size] = '\0';
        answered = ws_answer(request, answer);
    }
    connection->greeted = true;
    if (answered && send(connection->fd, answer, answered, MSG_NOSIGNAL) == (ssize_t)answered)
        return empty + 4;
    connection->consumer->ledger.corrupt++;
    connection->skip = UINT64_MAX;
    return end;
}

static char *take_messages(struct connection *connection, char *at, char *end, uint64_t since_start)
{
    switch (connection->wire) {
    case WS: return take_frames(connection, at, end, since_start);
    case NATS:
    case MQTT:
    case ZMTP: return take_enveloped(connection, at, end, since_start);
    case RECORDS: return take_records(connection, at, end, since_start);
    default: return take_lines(connection, at, end, since_start);
    }
}

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
    *port = wire == UNIX ? wanted : ntohs(place.inet.sin_port);
    return fd;
}

/* ---- producers ---- */

static void serve(int timeout);

/* Wait for the answer of a websocket, and serve meanwhile: it may be one of our own consumers that has to give it. */
static void shake_hands(int fd)
{
    char answer[WS_REQUEST_MOST];
    size_t size = 0;
    if (send(fd, WS_REQUEST, strlen(WS_REQUEST), MSG_NOSIGNAL) < 0)
        die("handshake");
    while (!memmem(answer, size, "\r\n\r\n", 4)) {
        ssize_t got = recv(fd, answer + size, sizeof answer - size, 0);
        if (got > 0)
            size += (size_t)got;
        else if (got < 0 && errno == EAGAIN)
            serve(1);
        else
            die("handshake");
    }
    if (memcmp(answer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "the relay answers %.*s\n", (int)size, answer);
        exit(1);
    }
}

static const struct broker *broker_of(enum wire wire)
{
    return wire == NATS ? &NATS_BROKER : wire == MQTT ? &MQTT_BROKER : NULL;
}

/* Say something to a broker, and wait for the end of its answer. What comes after that is left unread. */
static void converse(int fd, struct words said, struct words answer)
{
    char last[8] = {0};
    if (send(fd, said.text, said.size, MSG_NOSIGNAL) != (ssize_t)said.size)
        die("greeting the broker");
    while (memcmp(last + sizeof last - answer.size, answer.text, answer.size)) {
        memmove(last, last + 1, sizeof last - 1);
        if (recv(fd, last + sizeof last - 1, 1, 0) != 1)
            die("the broker's answer");
    }
}

static int reach(int port)
{
    union place place;
    socklen_t length = place_of(&place, options.wire, port);
    int one = 1, fd = socket(place.any.sa_family, socket_type(options.wire) | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &place.any, length))
        die("connect to the relay");
    if (options.wire != UDP && options.wire != UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const struct broker *broker = broker_of(options.wire);
    if (broker)
        converse(fd, broker->hello, broker->welcome);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (options.wire == WS)
        shake_hands(fd);
    return fd;
}

/* Consumers of a broker connect to it. They do before anything is published. */
static void subscribe(int relay)
{
    const struct broker *broker = broker_of(options.wire);
    for (unsigned i = 0; broker && i < options.consumers; i++) {
        int fd = reach(relay);
        fcntl(fd, F_SETFL, 0);
        converse(fd, broker->subscribe, broker->subscribed);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        adopt(&consumers[i], fd);
    }
}

static void open_producer(struct producer *producer, unsigned conn, int port, uint64_t limit)
{
    int fd = reach(port);
    *producer = (struct producer){.kind = PRODUCER, .fd = fd, .conn = conn, .writable = true, .limit = limit};
    producer->out = malloc(options.batch * stride);
    for (char *at = producer->out; at < producer->out + options.batch * stride; at += stride) {
        memcpy(at, outgoing.before, outgoing.before_size);
        memcpy(at + stride - outgoing.after_size, outgoing.after, outgoing.after_size);
    }
    watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, producer);
}

static void fill_batch(struct producer *producer, uint64_t since_start)
{
    uint64_t room = producer->limit - producer->made;
    unsigned count = room < options.batch ? (unsigned)room : options.batch;
    uint64_t seq = producer->made, head = encode_head(producer->conn, seq), time_digits = encode_time(since_start);
    char *message = producer->out + outgoing.before_size;
    for (unsigned i = 0; i < count; i++, message += stride) {
        encode_message(message, head, time_digits, producer->conn, seq);
        head = encode_next_head(head, producer->conn, ++seq);
        if (options.wire == WS)
            ws_mask(message, message, message_size, mask);
    }
    producer->made += count;
    made += count;
    producer->out_size = count * stride;
    producer->out_sent = 0;
}

/* Send messages of *size* bytes in all, each as a datagram; return the bytes that were sent, or -1. */
static ssize_t send_datagrams(int fd, char *from, size_t size)
{
    struct mmsghdr slots[DATAGRAMS] = {0};
    struct iovec pieces[DATAGRAMS];
    size_t total = 0;
    while (total < size) {
        unsigned count = 0;
        for (; count < DATAGRAMS && total + count * stride < size; count++) {
            pieces[count] = (struct iovec){from + total + count * stride, stride};
            slots[count].msg_hdr = (struct msghdr){.msg_iov = &pieces[count], .msg_iovlen = 1};
        }
        int sent = sendmmsg(fd, slots, count, MSG_NOSIGNAL);
        if (sent < 0)
            return total ? (ssize_t)total : -1;
        total += (unsigned)sent * stride;
        if ((unsigned)sent < count)
            break;
    }
    return (ssize_t)total;
}

static void push(struct producer *producer)
{
    char *from = producer->out + producer->out_sent;
    size_t size = producer->out_size - producer->out_sent;
    ssize_t sent = options.wire == UDP ? send_datagrams(producer->fd, from, size)
                                       : send(producer->fd, from, size, MSG_NOSIGNAL);
    if (sent >= 0)
        producer->out_sent += (size_t)sent;
    if (sent < 0 && errno != EAGAIN && errno != EINTR && !producer->broken) {
        producer->broken = true;
        resets++;
    }
    if (producer->out_sent < producer->out_size)
        producer->writable = false;
}

static uint64_t slowest(void)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < options.consumers; i++)
        if (!consumers[i].stalled && consumers[i].ledger.unique < least)
            least = consumers[i].ledger.unique;
    return least == UINT64_MAX ? made : least;
}

/* Write one batch for each producer that can; true if there is more to write at once. */
static bool pump_flat_out(uint64_t since_start)
{
    bool more = false;
    uint64_t arrived = options.window ? slowest() : 0;
    for (unsigned i = 0; i < producer_count; i++) {
        struct producer *producer = &producers[i];
        if (!producer->writable || producer->broken)
            continue;
        if (producer->out_sent == producer->out_size) {
            bool full = options.window && made - arrived + options.batch > options.window && made > arrived;
            if (stopped || full || producer->made == producer->limit)
                continue;
            fill_batch(producer, since_start);
        }
        push(producer);
        more |= producer->writable;
    }
    return more;
}

/* Write what is due by the clock. A late batch keeps the time it was due: its wait counts as latency. */
static void pump_on_schedule(uint64_t since_start)
{
    double gap = options.batch / options.rate * 1e9;
    for (unsigned i = 0; i < producer_count; i++)
        if (producers[i].out_sent < producers[i].out_size && producers[i].writable)
            push(&producers[i]);
    for (unsigned passed = 0; !stopped && passed < producer_count;) {
        struct producer *producer = &producers[batches % producer_count];
        uint64_t due = (uint64_t)((double)batches * gap);
        if (due > since_start)
            break;
        if (producer->broken || producer->made == producer->limit) {
            batches++;
            passed++;
            continue;
        }
        if (producer->out_sent < producer->out_size)
            return; /* woken by EPOLLOUT */
        passed = 0;
        fill_batch(producer, due);
        push(producer);
        batches++;
    }
    uint64_t next = (uint64_t)(started * 1e9) + (uint64_t)((double)batches * gap);
    struct itimerspec at = {.it_value = {(time_t)(next / 1000000000u), (long)(next % 1000000000u)}};
    timerfd_settime(timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* ---- the run ---- */

static void serve(int timeout)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(ep, events, EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        enum kind *kind = events[i].data.ptr;
        if (*kind == LISTENER) {
            take_connection(events[i].data.ptr);
        } else if (*kind == RECEIVER) {
            consume_datagrams(events[i].data.ptr);
        } else if (*kind == STDIN) {
            told = true;
        } else if (*kind == CONNECTION) {
            consume(events[i].data.ptr);
        } else if (*kind == PRODUCER) {
            struct producer *producer = events[i].data.ptr;
            producer->writable = true;
            if (events[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) && !producer->broken) {
                producer->broken = true;
                resets++;
            }
        } else {
            uint64_t expirations;
            if (read(timer.fd, &expirations, sizeof expirations) < 0)
                continue;
        }
    }
}

static bool all_connected(void)
{
    for (unsigned i = 0; i < options.consumers; i++)
        if (!consumers[i].connections && consumers[i].wire != UDP)
            return false;
    return true;
}

static bool complete(void)
{
    for (unsigned i = 0; i < producer_count; i++)
        if (producers[i].out_sent < producers[i].out_size || (!stopped && producers[i].made < producers[i].limit))
            return false;
    uint64_t wanted = options.consume ? options.count : options.ceiling ? made / options.consumers : made;
    return slowest() >= wanted;
}

static const char *run(void)
{
    for (;;) {
        double now = seconds();
        if (options.duration > 0 && now - started >= options.duration)
            stopped = true;
        uint64_t since_start = (uint64_t)((now - started) * 1e9);
        bool more = false;
        if (options.rate > 0)
            pump_on_schedule(since_start);
        else
            more = pump_flat_out(since_start);
        if (!more && complete())
            return "complete";
        serve(more ? 0 : 20);
        now = seconds();
        if (now - last_progress > options.idle)
            return "idle";
        if (now - started > options.bound)
            return "bound";
    }
}

static void report(const char *end, double elapsed, uint64_t relay_cpu, uint64_t own_cpu)
{
    bool intact = resets == 0;
    printf("{\"event\": \"result\", \"end\": \"%s\", \"sent\": %llu, \"elapsed\": %.6f, \"relay_cpu\": %.6f, "
           "\"generator_cpu\": %.6f, \"resets\": %u, \"consumers\": [",
           end, (unsigned long long)(options.ceiling ? made / options.consumers : made), elapsed,
           (double)relay_cpu / 1e9, (double)own_cpu / 1e9, resets);
    for (unsigned i = 0; i < options.consumers; i++) {
        struct consumer *consumer = &consumers[i];
        struct ledger *ledger = &consumer->ledger;
        uint64_t wanted = options.consume ? options.count : options.ceiling ? made / options.consumers : made;
        uint64_t lost = wanted > ledger->unique ? wanted - ledger->unique : 0;
        if (!consumer->stalled)
            intact &= !lost && !ledger->doubled && !ledger->reordered && !ledger->corrupt && !consumer->torn;
        printf("%s{\"received\": %llu, \"lost\": %llu, \"doubled\": %llu, \"reordered\": %llu, \"corrupt\": %llu, "
               "\"torn\": %llu, \"connections\": %u, \"stalled\": %s, \"finished\": %.6f}",
               i ? ", " : "", (unsigned long long)ledger->unique, (unsigned long long)lost,
               (unsigned long long)ledger->doubled, (unsigned long long)ledger->reordered,
               (unsigned long long)ledger->corrupt, (unsigned long long)consumer->torn, consumer->connections,
               consumer->stalled ? "true" : "false", consumer->last > started ? consumer->last - started : 0);
    }
    printf("], \"latency_us\": ");
    if (options.rate > 0 && head_size == TIMED_HEAD)
        printf("{\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}", latency_at(0.5), latency_at(0.99),
               latency_at(0.999), latency_at(1));
    else
        printf("null");
    printf(", \"intact\": %s}\n", intact ? "true" : "false");
    fflush(stdout);
}

static enum wire wire_of(const char *name)
{
    static const char *const names[] = {
        [TCP] = "tcp", [UNIX] = "unix", [WS] = "ws", [UDP] = "udp", [NATS] = "nats", [MQTT] = "mqtt"};
    for (enum wire wire = TCP; wire <= MQTT; wire++)
        if (!strcmp(name, names[wire]))
            return wire;
    fprintf(stderr, "a wire is one of tcp, unix, ws, udp, nats, mqtt\n");
    exit(2);
}

static void set_reach(char *names)
{
    for (char *name = strtok(names, ","); name && options.reach_count < REACH_MOST; name = strtok(NULL, ","))
        options.reach[options.reach_count++] = wire_of(name);
}

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"producers", 1, 0, 'p'}, {"consumers", 1, 0, 'c'}, {"stall", 1, 0, 's'},    {"batch", 1, 0, 'b'},
        {"size", 1, 0, 'z'},      {"count", 1, 0, 'n'},     {"window", 1, 0, 'w'},   {"rate", 1, 0, 'r'},
        {"duration", 1, 0, 'd'},  {"bound", 1, 0, 'B'},     {"idle", 1, 0, 'i'},     {"linger", 1, 0, 'l'},
        {"ceiling", 0, 0, 'C'},   {"consume", 0, 0, 'K'},   {"wire", 1, 0, 'W'},     {"reach", 1, 0, 'R'},
        {"quiet", 1, 0, 'q'},     {"thaw", 0, 0, 'T'},      {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'p': options.producers = (unsigned)atoi(optarg); break;
        case 'c': options.consumers = (unsigned)atoi(optarg); break;
        case 's': options.stall = (unsigned)atoi(optarg); break;
        case 'b': options.batch = (unsigned)atoi(optarg); break;
        case 'z': options.size = (size_t)atoll(optarg); break;
        case 'n': options.count = (uint64_t)atoll(optarg); break;
        case 'w': options.window = (uint64_t)atoll(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'd': options.duration = atof(optarg); break;
        case 'B': options.bound = atof(optarg); break;
        case 'i': options.idle = atof(optarg); break;
        case 'l': options.linger = atof(optarg); break;
        case 'C': options.ceiling = true; break;
        case 'K': options.consume = true; break;
        case 'W': options.wire = wire_of(optarg); break;
        case 'R': set_reach(optarg); break;
        case 'q': options.quiet = (unsigned)atoi(optarg); break;
        case 'T': options.thaw = true; break;
        default: exit(2);
        }
    }
    if (options.size < UNTIMED_HEAD || !options.consumers || options.consumers <= options.stall ||
        !options.producers || options.producers > CONNECTIONS_MAX || !options.batch ||
        (!options.count && (options.consume || options.duration <= 0)) ||
        (options.ceiling && (options.stall || options.reach_count || broker_of(options.wire))) ||
        (options.ceiling && options.wire == UDP && options.consumers > 1)) {
        fprintf(stderr, "size >= 10, consumers > stall, 1..4096 producers, and a count or a duration, please; "
                        "no --reach and no broker for --ceiling, and one consumer over udp\n");
        exit(2);
    }
}

static void open_consumers(int *ports)
{
    consumers = calloc(options.consumers, sizeof *consumers);
    printf("{\"event\": \"listening\", \"ports\": [");
    for (unsigned i = 0; i < options.consumers; i++) {
        struct consumer *consumer = &consumers[i];
        consumer->wire = options.reach_count ? options.reach[i % options.reach_count] : options.wire;
        consumer->kind = consumer->wire == UDP ? RECEIVER : LISTENER;
        ports[i] = 0;
        consumer->listening = broker_of(consumer->wire) ? -1 : listen_anywhere(consumer->wire, &ports[i], i);
        consumer->stalled = i >= options.consumers - options.stall;
        ledger_open(&consumer->ledger, options.producers);
        if (consumer->listening >= 0 && (!consumer->stalled || consumer->wire != UDP)) /* one without connections is just never read */
            watch(consumer->listening, EPOLLIN, consumer);
        printf("%s%d", i ? ", " : "", ports[i]);
    }
    printf("]}\n");
    fflush(stdout);
}

static void open_producers(const int *ports, int relay)
{
    unsigned each = options.ceiling ? options.consumers : 1;
    producer_count = options.consume ? 0 : options.producers * each;
    producers = calloc(producer_count + 1, sizeof *producers);
    for (unsigned i = 0; i < producer_count; i++) {
        unsigned conn = i / each;
        uint64_t share = options.count / options.producers + (conn < options.count % options.producers);
        open_producer(&producers[i], conn, options.ceiling ? ports[i % each] : relay,
                      options.count ? share : UINT64_MAX);
    }
    if (options.ceiling && options.wire != UDP)
        options.window = 0; /* the sockets bound it */
}

/* Connections that say nothing. They stay open to the end of this process. */
static void open_quiet(int relay)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (unsigned i = 0; i < options.quiet; i++)
        reach(relay);
}

/* Read what stalled consumers left, until nothing comes any more. */
static void thaw(void)
{
    for (; frozen; frozen = frozen->next_frozen)
        watch(frozen->fd, EPOLLIN, frozen);
    for (last_progress = seconds(); seconds() - last_progress < THAWED;)
        serve(10);
}

static void set_sizes(void)
{
    message_format(options.size);
    if (getrandom(mask, sizeof mask, 0) != sizeof mask)
        die("getrandom");
    outgoing = (struct envelope){.after = "\n", .after_size = options.wire == TCP || options.wire == UNIX};
    if (options.wire == WS)
        outgoing.before_size = ws_head(outgoing.before, WS_TEXT, message_size, mask);
    if (options.wire == NATS)
        outgoing = nats_envelope("PUB b");
    if (options.wire == MQTT)
        outgoing = mqtt_envelope();
    incoming[NATS] = nats_envelope("MSG b 1");
    incoming[MQTT] = mqtt_envelope();
    incoming[ZMTP] = zmtp_envelope();
    stride = outgoing.before_size + message_size + outgoing.after_size;
    tail_room = message_size + WS_REQUEST_MOST; /* more than anything that is taken in one piece */
    size_t datagrams = DATAGRAMS * (message_size + 1), before = (tail_room + PAGE - 1) / PAGE * PAGE;
    if (posix_memalign((void **)&chunk, PAGE, before + (datagrams > READ_SIZE ? datagrams : READ_SIZE)))
        die("memory");
    chunk += before;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    set_sizes();
    ep = epoll_create1(EPOLL_CLOEXEC);
    timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int ports[options.consumers], relay = 0, pid = 0;
    open_consumers(ports);
    if (!options.ceiling && !options.consume) {
        watch(STDIN_FILENO, EPOLLIN, &standard_input);
        while (!told)
            serve(-1); /* a relay may connect before it listens, and wants its handshakes answered */
        epoll_ctl(ep, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        if (scanf("relay 127.0.0.1:%d %d", &relay, &pid) < 1)
            return 0; /* the runner gave up */
    }
    if (options.rate > 0)
        watch(timer.fd, EPOLLIN, &timer);
    subscribe(relay);
    open_producers(ports, relay);
    open_quiet(relay);
    double wait_until = seconds() + 1; /* a relay may also connect with the first message */
    while (!options.consume && !all_connected() && seconds() < wait_until)
        serve(20);

    printf("{\"event\": \"start\"}\n");
    fflush(stdout);
    clockid_t relay_clock = (clockid_t)(~(unsigned)pid << 3 | 2); /* CPU time of that process, all its threads */
    uint64_t relay_before = pid ? nanoseconds(relay_clock) : 0;
    uint64_t own_before = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    started = last_progress = seconds();
    const char *end = run();
    uint64_t relay_cpu = pid ? nanoseconds(relay_clock) - relay_before : 0;
    uint64_t own_cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - own_before;
    double elapsed = last_progress - started;
    unsigned cut_off = resets;
    printf("{\"event\": \"end\"}\n");
    fflush(stdout);
    for (double until = seconds() + options.linger; seconds() < until;)
        serve(10); /* what arrives now is doubled */
    if (options.thaw)
        thaw();
    resets = cut_off; /* what the relay does after the end is its own affair */
    report(end, elapsed, relay_cpu, own_cpu);
    return 0;
}
