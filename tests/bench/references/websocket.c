/*
 * The yardstick for websockets: all whole frames of a chunk are masked anew, each by four random bytes of its own, and
 * the result goes to every consumer. Pings and the rest of the protocol are left out.
 *
 *   websocket PLACE CONSUMER...        prints "listen ws://127.0.0.1:PORT" on stderr
 */
#define _GNU_SOURCE
#include "../websocket.h"
#include "relay.h"

#include <sys/random.h>

enum { KEYS = 4096 };

static char encoded[sizeof chunk]; /* no frame gets longer: it had a mask already */

/* Four random bytes that nobody has used. */
static const char *fresh_key(void)
{
    static char keys[KEYS][4];
    static unsigned used = KEYS;
    if (used == KEYS) {
        for (size_t got = 0; got < sizeof keys;) {
            ssize_t more = getrandom((char *)keys + got, sizeof keys - got, 0);
            if (more < 0 && errno != EINTR)
                die("getrandom");
            got += more > 0 ? (size_t)more : 0;
        }
        used = 0;
    }
    return keys[used++];
}

static size_t greet(struct source *source, size_t have)
{
    char answer[WS_ANSWER_MOST];
    char *end = memmem(chunk, have, "\r\n\r\n", 4);
    if (!end)
        return 0;
    end[2] = '\0';
    size_t size = ws_answer(chunk, answer);
    if (!size || send(source->fd, answer, size, MSG_NOSIGNAL) != (ssize_t)size)
        die("handshake with a producer");
    source->greeted = true;
    return (size_t)(end + 4 - chunk);
}

static size_t take_frames(struct source *source, size_t have)
{
    size_t at = source->greeted ? 0 : greet(source, have), out = 0;
    struct frame frame;
    while (source->greeted && ws_read_head(chunk + at, have - at, &frame) && frame.size <= have - at - frame.head) {
        if (frame.first == WS_TEXT && frame.key) {
            const char *key = fresh_key();
            char both[4]; /* the producer's mask off and ours on, in one go */
            for (int i = 0; i < 4; i++)
                both[i] = key[i] ^ frame.key[i];
            out += ws_head(encoded + out, WS_TEXT, frame.size, key);
            ws_mask(encoded + out, chunk + at + frame.head, frame.size, both);
            out += frame.size;
        }
        at += frame.head + frame.size;
    }
    if (out)
        forward(encoded, out);
    return at;
}

static int greeted(int fd)
{
    char answer[WS_REQUEST_MOST + 1];
    size_t size = 0;
    if (send(fd, WS_REQUEST, strlen(WS_REQUEST), MSG_NOSIGNAL) < 0)
        die("handshake with a consumer");
    while (!memmem(answer, size, "\r\n\r\n", 4)) {
        ssize_t got = recv(fd, answer + size, sizeof answer - size, 0);
        if (got <= 0)
            die("handshake with a consumer");
        size += (size_t)got;
    }
    return fd;
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc && consumer_count < CONSUMERS_MAX; i++)
        consumers[consumer_count++] = (struct pollfd){.fd = greeted(connected_to(argv[i]))};
    serve(listening_at(argc > 1 ? argv[1] : "0", "ws"), take_frames);
}
