/*
 * The yardstick for datagrams: up to 64 in one call, and one call for each consumer to send them on.
 *
 *   udp PORT CONSUMER...        prints "listen udp://127.0.0.1:PORT" on stderr
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { DATAGRAMS = 64, LONGEST = 65536, CONSUMERS_MAX = 1024 };

static char room[DATAGRAMS][LONGEST];
static int consumers[CONSUMERS_MAX];
static int consumer_count;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in place_of(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)atoi(port)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int connected_to(const char *port)
{
    struct sockaddr_in place = place_of(port);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&place, sizeof place))
        die("connect");
    return fd;
}

static void send_all(int fd, struct mmsghdr *slots, int count)
{
    for (int sent = 0; sent < count;) {
        int taken = sendmmsg(fd, slots + sent, (unsigned)(count - sent), 0);
        if (taken < 0 && errno == ECONNREFUSED)
            taken = 1; /* nobody was there for an earlier one: this one is not sent, as a datagram may be */
        if (taken < 0 && errno != EINTR)
            die("sendmmsg");
        sent += taken > 0 ? taken : 0;
    }
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc && consumer_count < CONSUMERS_MAX; i++)
        consumers[consumer_count++] = connected_to(argv[i]);
    struct sockaddr_in place = place_of(argc > 1 ? argv[1] : "0");
    socklen_t length = sizeof place;
    int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&place, length) ||
        getsockname(server, (struct sockaddr *)&place, &length))
        die("listen");
    fprintf(stderr, "listen udp://127.0.0.1:%d\n", ntohs(place.sin_port));
    struct iovec pieces[DATAGRAMS];
    struct mmsghdr slots[DATAGRAMS] = {0};
    for (int i = 0; i < DATAGRAMS; i++) {
        pieces[i].iov_base = room[i];
        slots[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    for (;;) {
        for (int i = 0; i < DATAGRAMS; i++)
            pieces[i].iov_len = LONGEST;
        int got = recvmmsg(server, slots, DATAGRAMS, MSG_WAITFORONE, NULL);
        if (got < 0 && errno != EINTR)
            die("recvmmsg");
        for (int i = 0; i < got; i++)
            pieces[i].iov_len = slots[i].msg_len;
        for (int i = 0; i < consumer_count && got > 0; i++)
            send_all(consumers[i], slots, got);
    }
}
