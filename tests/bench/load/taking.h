/* What came on a connection: the messages in it are found on every wire, and entered in the ledger of the consumer. */
#ifndef BENCH_LOAD_TAKING_H
#define BENCH_LOAD_TAKING_H

#include "state.h"

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

#endif
