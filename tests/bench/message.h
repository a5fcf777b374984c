/*
 * The numbered message of the bench: how it is written, and how a consumer proves it right.
 *
 *     conn 2 digits | seq 6 digits | time 8 digits (only from 18 bytes on) | check 2 digits | fill
 *
 * Digits are base 64 in an alphabet without newline or NUL, so that a message is valid in every framing and is
 * valid UTF-8. The check covers all digits before it; the fill is a slice of one pattern, chosen by conn and seq.
 * messages.py holds the same format for Python: change both or neither.
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { UNTIMED_HEAD = 10, TIMED_HEAD = 18, CONNECTIONS_MAX = 4096, PATTERN_SLOTS = 4096 };

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint16_t pair[4096]; /* two digits for 12 bits */
static uint16_t digit[256]; /* the value of a digit; BAD_DIGIT for anything else */
static char *pattern;
static size_t message_size, head_size, fill_size;

enum { BAD_DIGIT = 0x8000 };

static void message_format(size_t size)
{
    message_size = size;
    head_size = size >= TIMED_HEAD ? TIMED_HEAD : UNTIMED_HEAD;
    fill_size = size - head_size;
    for (int i = 0; i < 256; i++)
        digit[i] = BAD_DIGIT;
    for (int i = 0; i < 64; i++)
        digit[(unsigned char)ALPHABET[i]] = (uint16_t)i;
    for (int i = 0; i < 4096; i++) {
        char two[2] = {ALPHABET[i >> 6], ALPHABET[i & 63]};
        memcpy(&pair[i], two, 2);
    }
    pattern = malloc(PATTERN_SLOTS + size);
    uint32_t state = 1;
    for (size_t i = 0; i < PATTERN_SLOTS + size; i++) {
        state = state * 1664525u + 1013904223u;
        pattern[i] = ALPHABET[state >> 26];
    }
}

static inline uint64_t load64(const char *from)
{
    uint64_t value;
    memcpy(&value, from, 8);
    return value;
}

static inline uint64_t encode_head(unsigned conn, uint64_t seq)
{
    uint16_t digits[4] = {pair[conn], pair[(seq >> 24) & 4095], pair[(seq >> 12) & 4095], pair[seq & 4095]};
    uint64_t head;
    memcpy(&head, digits, 8);
    return head;
}

/* The same for the message after one with this head: only two digits are others, except for each 4096th. */
static inline uint64_t encode_next_head(uint64_t head, unsigned conn, uint64_t seq)
{
    return seq & 4095 ? (head & 0xFFFFFFFFFFFF) | (uint64_t)pair[seq & 4095] << 48 : encode_head(conn, seq);
}

static inline uint64_t encode_time(uint64_t nanoseconds)
{
    uint16_t digits[4] = {pair[(nanoseconds >> 36) & 4095], pair[(nanoseconds >> 24) & 4095],
                          pair[(nanoseconds >> 12) & 4095], pair[nanoseconds & 4095]};
    uint64_t time_digits;
    memcpy(&time_digits, digits, 8);
    return head_size == TIMED_HEAD ? time_digits : 0;
}

static inline uint16_t check_digits(uint64_t head, uint64_t time_digits)
{
    uint64_t mixed = (head ^ (time_digits * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return pair[mixed >> 52];
}

static inline const char *fill_of(unsigned conn, uint64_t seq)
{
    return pattern + ((seq * 61 + conn * 131) & (PATTERN_SLOTS - 1));
}

/*
 * Whether both are the same, and a copy: in line for the usual sizes, because a call of the library costs as much as the
 * work. Two pieces that overlap make any size from one of them to two.
 */
#ifdef __AVX512F__
enum { PIECE = sizeof(__m512i) };

static inline bool same(const char *left, const char *right, size_t size)
{
    if (size < PIECE || size > 2 * PIECE)
        return memcmp(left, right, size) == 0;
    size_t rest = size - PIECE;
    __m512i first = _mm512_xor_si512(_mm512_loadu_si512(left), _mm512_loadu_si512(right));
    __m512i last = _mm512_xor_si512(_mm512_loadu_si512(left + rest), _mm512_loadu_si512(right + rest));
    __m512i unlike = _mm512_or_si512(first, last);
    return _mm512_test_epi64_mask(unlike, unlike) == 0;
}

static inline void copy(char *to, const char *from, size_t size)
{
    if (size < PIECE || size > 2 * PIECE) {
        memcpy(to, from, size);
        return;
    }
    size_t rest = size - PIECE;
    __m512i first = _mm512_loadu_si512(from), last = _mm512_loadu_si512(from + rest);
    _mm512_storeu_si512(to, first);
    _mm512_storeu_si512(to + rest, last);
}
#else
static inline bool same(const char *left, const char *right, size_t size) { return memcmp(left, right, size) == 0; }
static inline void copy(char *to, const char *from, size_t size) { memcpy(to, from, size); }
#endif

/* Write message seq of conn, whose head and time are encoded already. */
static inline void encode_message(char *out, uint64_t head, uint64_t time_digits, unsigned conn, uint64_t seq)
{
    uint16_t check = check_digits(head, time_digits);
    memcpy(out, &head, 8);
    if (head_size == TIMED_HEAD)
        memcpy(out + 8, &time_digits, 8);
    memcpy(out + head_size - 2, &check, 2);
    copy(out + head_size, fill_of(conn, seq), fill_size);
}

/* Everything after conn and seq, which the caller has read already. */
static inline bool rest_is_right(const char *message, uint64_t head, unsigned conn, uint64_t seq)
{
    uint64_t time_digits = head_size == TIMED_HEAD ? load64(message + 8) : 0;
    uint16_t check = check_digits(head, time_digits);
    return memcmp(message + head_size - 2, &check, 2) == 0 &&
           same(message + head_size, fill_of(conn, seq), fill_size);
}

static inline uint64_t decode_digits(const char *from, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) {
        uint16_t one = digit[(unsigned char)from[i]];
        if (one == BAD_DIGIT)
            return UINT64_MAX;
        value = value << 6 | one;
    }
    return value;
}

/* What one consumer knows about the messages of one connection. Every seq below `next` that lies in no hole came. */
struct hole { uint64_t from, to; };
struct stream {
    uint64_t next, unique;
    struct hole *holes;
    size_t hole_count, hole_room;
};

struct ledger {
    struct stream *streams;
    unsigned stream_count;
    uint64_t unique, doubled, reordered, corrupt;
};

static void ledger_open(struct ledger *ledger, unsigned stream_count)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->streams = calloc(stream_count, sizeof *ledger->streams);
    ledger->stream_count = stream_count;
}

static void hole_insert(struct stream *stream, size_t at, struct hole hole)
{
    if (stream->hole_count == stream->hole_room) {
        stream->hole_room = stream->hole_room ? stream->hole_room * 2 : 16;
        stream->holes = realloc(stream->holes, stream->hole_room * sizeof hole);
        if (!stream->holes)
            abort();
    }
    memmove(stream->holes + at + 1, stream->holes + at, (stream->hole_count - at) * sizeof hole);
    stream->holes[at] = hole;
    stream->hole_count++;
}

/* Take seq out of its hole; false if it lies in none: it came before. */
static bool hole_fill(struct stream *stream, uint64_t seq)
{
    size_t low = 0, high = stream->hole_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (stream->holes[middle].to <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == stream->hole_count || stream->holes[low].from > seq)
        return false;
    struct hole *hole = &stream->holes[low];
    struct hole right = {seq + 1, hole->to};
    hole->to = seq;
    if (right.from < right.to && hole->from < hole->to) {
        hole_insert(stream, low + 1, right);
    } else if (right.from < right.to) {
        *hole = right;
    } else if (hole->from == hole->to) {
        memmove(hole, hole + 1, (stream->hole_count - low - 1) * sizeof *hole);
        stream->hole_count--;
    }
    return true;
}

static void ledger_enter_odd(struct ledger *ledger, const char *message)
{
    uint64_t conn = decode_digits(message, 2), seq = decode_digits(message + 2, 6);
    if (conn >= ledger->stream_count || seq == UINT64_MAX ||
        !rest_is_right(message, load64(message), (unsigned)conn, seq)) {
        ledger->corrupt++;
        return;
    }
    struct stream *stream = &ledger->streams[conn];
    if (seq >= stream->next) {
        if (seq > stream->next)
            hole_insert(stream, stream->hole_count, (struct hole){stream->next, seq});
        stream->next = seq + 1;
    } else if (hole_fill(stream, seq)) {
        ledger->reordered++;
    } else {
        ledger->doubled++;
        return;
    }
    stream->unique++;
    ledger->unique++;
}

/* Enter one message of exactly message_size bytes. */
static inline void ledger_enter(struct ledger *ledger, const char *message)
{
    unsigned conn = digit[(unsigned char)message[0]] << 6 | digit[(unsigned char)message[1]];
    if (conn < ledger->stream_count) {
        struct stream *stream = &ledger->streams[conn];
        uint64_t head = load64(message);
        if (head == encode_head(conn, stream->next) && rest_is_right(message, head, conn, stream->next)) {
            stream->next++;
            stream->unique++;
            ledger->unique++;
            return;
        }
    }
    ledger_enter_odd(ledger, message);
}

/*
 * Enter the lines between *at* and *end* up to the first that is not the next message of the connection which the first
 * one is of, and right; return where that begins. What is known of the connection is looked up once for all of them.
 */
static inline char *ledger_enter_run(struct ledger *ledger, char *at, const char *end)
{
    size_t step = message_size + 1;
    if ((size_t)(end - at) < step)
        return at;
    unsigned conn = digit[(unsigned char)at[0]] << 6 | digit[(unsigned char)at[1]];
    if (conn >= ledger->stream_count)
        return at;
    struct stream *stream = &ledger->streams[conn];
    uint64_t seq = stream->next, head = encode_head(conn, seq);
    while ((size_t)(end - at) >= step && load64(at) == head && at[message_size] == '\n' &&
           rest_is_right(at, head, conn, seq)) {
        at += step;
        head = encode_next_head(head, conn, ++seq);
    }
    ledger->unique += seq - stream->next;
    stream->unique += seq - stream->next;
    stream->next = seq;
    return at;
}

#endif
