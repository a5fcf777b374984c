/*
 * The yardstick for lines over tcp or unix streams: what a short C loop does. It finds the last whole line of what it
 * read, and passes on all up to there.
 *
 *   lines PLACE CONSUMER...        prints "listen" and the URL of its own place on stderr
 */
#define _GNU_SOURCE
#include "relay.h"

static size_t take_lines(struct source *source, size_t have)
{
    (void)source;
    char *newline = memrchr(chunk, '\n', have);
    size_t whole = newline ? (size_t)(newline + 1 - chunk) : 0;
    if (whole)
        forward(chunk, whole);
    return whole;
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc && consumer_count < CONSUMERS_MAX; i++)
        consumers[consumer_count++] = (struct pollfd){.fd = connected_to(argv[i])};
    serve(listening_at(argc > 1 ? argv[1] : "0", "tcp"), take_lines);
}
