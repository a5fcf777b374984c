/*
 * The little of websockets that the bench needs (RFC 6455): both ends of the handshake, and frames that are not
 * fragmented. websocket.py holds the same for Python.
 */
#ifndef BENCH_WEBSOCKET_H
#define BENCH_WEBSOCKET_H

#include "message.h"

#include <stdio.h>

enum { WS_TEXT = 0x81, WS_CLOSE = 0x88, WS_PING = 0x89, WS_PONG = 0x8A, WS_MASK = 0x80 };
enum { WS_HEAD_MOST = 14, WS_CONTROL_MOST = 125, WS_REQUEST_MOST = 4096, WS_ANSWER_MOST = 256 };

static const char WS_REQUEST[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Key: cHJvZHVjZXItcG9vbC1iZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static inline uint32_t rotate(uint32_t value, int by) { return value << by | value >> (32 - by); }

/* SHA-1 (RFC 3174) of a text of 56 to 119 bytes. */
static void sha1(const char *text, size_t size, uint32_t digest[5])
{
    unsigned char blocks[128] = {0};
    memcpy(blocks, text, size);
    blocks[size] = 0x80;
    blocks[126] = (unsigned char)(size >> 5); /* the size in bits */
    blocks[127] = (unsigned char)(size << 3);
    static const uint32_t first[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    memcpy(digest, first, sizeof first);
    for (unsigned char *block = blocks; block < blocks + sizeof blocks; block += 64) {
        uint32_t w[80], a = digest[0], b = digest[1], c = digest[2], d = digest[3], e = digest[4];
        for (int i = 0; i < 80; i++) {
            if (i < 16)
                w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
            else
                w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
            uint32_t mixed = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                             : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                             : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                      : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + mixed + e + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        digest[0] += a, digest[1] += b, digest[2] += c, digest[3] += d, digest[4] += e;
    }
}

/* Write the answer to a request that ends in an empty line, and return its size; 0: it is none of a websocket. */
static size_t ws_answer(const char *request, char *answer)
{
    const char *key = strcasestr(request, "\r\nsec-websocket-key:");
    if (!key)
        return 0;
    key += strlen("\r\nsec-websocket-key:");
    key += strspn(key, " ");
    char text[61], accept[29];
    if (strcspn(key, " \r") != 24)
        return 0;
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    uint32_t digest[5];
    sha1(text, 60, digest);
    for (int i = 0; i < 27; i++) { /* base 64: 160 bits, and two zeros */
        uint64_t bits = (uint64_t)digest[i * 6 / 32] << 32 | (i * 6 / 32 < 4 ? digest[i * 6 / 32 + 1] : 0);
        unsigned value = bits >> (58 - i * 6 % 32) & 63;
        accept[i] = value < 62 ? ALPHABET[value] : value == 62 ? '+' : '/';
    }
    memcpy(accept + 27, "=", 2);
    return (size_t)snprintf(answer, WS_ANSWER_MOST,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Accept: %s\r\n\r\n",
                            accept);
}

static inline void ws_mask(char *to, const char *from, size_t size, const char key[4])
{
    uint32_t four;
    memcpy(&four, key, 4);
    uint64_t eight = (uint64_t)four << 32 | four;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t masked = load64(from + i) ^ eight;
        memcpy(to + i, &masked, 8);
    }
    for (; i < size; i++)
        to[i] = from[i] ^ key[i & 3];
}

/* Write the head of a frame, masked if there is a key, and return its size. */
static size_t ws_head(char *out, unsigned char first, size_t size, const char *key)
{
    unsigned char head[WS_HEAD_MOST] = {first}, mask = key ? WS_MASK : 0;
    size_t at = 2, bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    head[1] = mask | (unsigned char)(bytes == 0 ? size : bytes == 2 ? 126 : 127);
    while (bytes)
        head[at++] = (unsigned char)((uint64_t)size >> 8 * --bytes);
    memcpy(out, head, at);
    if (key)
        memcpy(out + at, key, 4);
    return at + (key ? 4 : 0);
}

struct frame {
    unsigned char first;
    const char *key; /* NULL: it is not masked */
    uint64_t size;
    size_t head;
};

/* Read the head of a frame; false: it is not whole. */
static inline bool ws_read_head(const char *from, size_t have, struct frame *frame)
{
    const unsigned char *at = (const unsigned char *)from;
    if (have < 2)
        return false;
    size_t bytes = (at[1] & 127) < 126 ? 0 : (at[1] & 127) == 126 ? 2 : 8;
    frame->first = at[0];
    frame->head = 2 + bytes + (at[1] & WS_MASK ? 4 : 0);
    if (have < frame->head)
        return false;
    frame->size = bytes ? 0 : at[1] & 127;
    for (size_t i = 0; i < bytes; i++)
        frame->size = frame->size << 8 | at[2 + i];
    frame->key = at[1] & WS_MASK ? from + frame->head - 4 : NULL;
    return true;
}

#endif
