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
#include "producing.h"

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
        /* One without connections that stalls is just never read. */
        if (consumer->listening >= 0 && (!consumer->stalled || consumer->wire != UDP))
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
