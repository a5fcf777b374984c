/*
 * The little of the peers' protocols that the bench needs: NATS, MQTT 3.1.1 at QoS 0, ZMTP 3.0 without security, and the
 * records that logging.handlers.SocketHandler of Python sends.
 *
 * All messages of a run have one size, so what stands before and behind each of them is the same bytes.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "message.h"

#include <stdio.h>

struct envelope {
    char before[40], after[2];
    size_t before_size, after_size;
};

struct words {
    const char *text;
    size_t size;
};

#define WORDS(text) {text, sizeof text - 1}

/* What a client says first, what it says in order to get messages, and how the answer to either ends. */
struct broker {
    struct words hello, welcome, subscribe, subscribed;
};

static const struct broker NATS_BROKER = {
    .hello = WORDS("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n"),
    .welcome = WORDS("PONG\r\n"),
    .subscribe = WORDS("SUB b 1\r\nPING\r\n"),
    .subscribed = WORDS("PONG\r\n"),
};

/* Clean session, no keep-alive, and an identifier that the broker chooses; then the topic b. */
static const struct broker MQTT_BROKER = {
    .hello = WORDS("\x10\x0C\0\4MQTT\4\2\0\0\0\0"),
    .welcome = WORDS("\x20\2\0\0"),
    .subscribe = WORDS("\x82\6\0\1\0\1b\0"),
    .subscribed = WORDS("\x90\3\0\1\0"),
};

static struct envelope nats_envelope(const char *verb)
{
    struct envelope around = {.after = "\r\n", .after_size = 2};
    around.before_size = (size_t)snprintf(around.before, sizeof around.before, "%s %zu\r\n", verb, message_size);
    return around;
}

static struct envelope mqtt_envelope(void)
{
    struct envelope around = {.before = {0x30}, .before_size = 1};
    size_t left = 3 + message_size; /* the topic with its size, and the message */
    do {
        around.before[around.before_size++] = (char)((left & 127) | (left > 127 ? 128 : 0));
    } while (left >>= 7);
    memcpy(around.before + around.before_size, "\0\1b", 3);
    around.before_size += 3;
    return around;
}

/* ---- ZMTP ---- */

enum { ZMTP_FIRST = 0xFF, ZMTP_GREETING = 64, ZMTP_LONG = 2 };

/* The greeting, and READY with the type of socket. */
static const char ZMTP_HELLO[] = "\xFF\0\0\0\0\0\0\0\1\x7F\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\4\x19\5READY\x0BSocket-Type\0\0\0\3SUB";

/* To everything; not before the other side is ready, too. */
static const char ZMTP_SUBSCRIBE[] = "\0\1\1";

static struct envelope zmtp_envelope(void)
{
    struct envelope around = {.before_size = 2};
    around.before[1] = (char)message_size;
    if (message_size > 255) {
        around.before[0] = ZMTP_LONG;
        around.before_size = 9;
        for (int i = 0; i < 8; i++)
            around.before[1 + i] = (char)((uint64_t)message_size >> (56 - 8 * i));
    }
    return around;
}

/* ---- what comes besides messages; its size is 0 as long as it is not whole ---- */

static size_t nats_aside(const char *at, size_t have)
{
    const char *end = memmem(at, have, "\r\n", 2);
    return end ? (size_t)(end + 2 - at) : 0;
}

/* Of MQTT, and the commands of ZMTP: a byte, and a size below 128. */
static size_t short_aside(const char *at, size_t have)
{
    size_t size = have < 2 ? 0 : 2 + (size_t)(unsigned char)at[1];
    return size <= have ? size : 0;
}

/* ---- records of logging ---- */

/* A pickle of a dictionary, after its size in four bytes. What is found is the text of the right size in it. */
static const char *text_in_record(const char *record, size_t size)
{
    char before[5] = {'X'};
    for (int i = 0; i < 4; i++)
        before[1 + i] = (char)(message_size >> 8 * i);
    const char *found = memmem(record, size, before, sizeof before);
    return found && found + sizeof before + message_size <= record + size ? found + sizeof before : NULL;
}

#endif
