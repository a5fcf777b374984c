/* Producers: how they reach the relay, or consumers a broker; and what is written when, flat out and on a schedule. */
#ifndef BENCH_LOAD_PRODUCING_H
#define BENCH_LOAD_PRODUCING_H

#include "consuming.h"

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

#endif
