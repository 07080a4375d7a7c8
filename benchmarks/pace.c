/*
 * Open-loop load: requests leave on a schedule that does not wait for answers.
 *
 *     pace PORT METHOD PATH RATE SECONDS CONNECTIONS COOKIES
 *
 * Arrivals are a Poisson process of RATE per second, the same one in every run. Each takes a free
 * keep-alive connection to 127.0.0.1; if all are busy it queues. Its latency runs from the instant
 * at which it was due, so time in the queue counts. COOKIES is a file with one cookie value a line;
 * each request takes the next.
 *
 * Proof of the schedule, in the output: `lag` is how late this program itself noticed that a
 * request was due. If that is large, the machine was too busy for this rate and the run is void.
 * On a machine of its own a generator would not wait for Redis to leave it the processor; here it
 * asks Linux for precedence (`punctual`: whether it was granted), and sleeps most of the time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 16384, MAX_EVENTS = 256, DRAIN_SECONDS = 5 };

struct connection {
    int fd;
    int busy;                /* waits for an answer */
    double due;              /* of the request that is on its way */
    size_t used;
    char buffer[BUFFER];
};

static struct sockaddr_in address;
static struct connection *connections;
static int *idle, idle_count, epoll_fd;
static double *queue, *latencies, *lags;
static long answered, refused, broken;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "pace: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The same sequence in every run (xorshift64*). */
static double uniform(void) {
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)((state * 0x2545F4914F6CDD1Du) >> 11) * 0x1p-53;
}

static void open_connection(int i) {
    struct connection *c = &connections[i];
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->used = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void become_idle(int i) {
    connections[i].busy = 0;
    idle[idle_count++] = i;
}

/* Whoever may (root) is woken at once; others wait until Redis has had its turn. */
static int be_punctual(void) {
    struct sched_param first = {.sched_priority = 1};
    return !sched_setscheduler(0, SCHED_FIFO, &first);
}

/* The status if the buffer holds a whole response, 0 if more has to come. */
static int whole_response(struct connection *c) {
    c->buffer[c->used] = 0;
    char *body = strstr(c->buffer, "\r\n\r\n");
    if (!body) return 0;
    char *length = strcasestr(c->buffer, "\r\ncontent-length:");
    size_t size = length && length < body ? strtoul(length + 17, NULL, 10) : 0;
    return c->used >= (size_t)(body + 4 - c->buffer) + size ? atoi(c->buffer + 9) : 0;
}

static void receive(int i) {
    struct connection *c = &connections[i];
    ssize_t got = recv(c->fd, c->buffer + c->used, BUFFER - 1 - c->used, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        close(c->fd);
        open_connection(i);
        if (!c->busy) return;
        broken++;
        become_idle(i);
        return;
    }
    c->used += (size_t)got;
    int status = whole_response(c);
    if (!status) return;
    if (status >= 400) refused++;
    latencies[answered++] = now() - c->due;
    c->used = 0;
    become_idle(i);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_quantiles(const char *name, double *values, long count) {
    static const double at[] = {0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1};
    qsort(values, (size_t)count, sizeof *values, ascending);
    printf(", \"%s\": {", name);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        long rank = (long)ceil(at[i] * (double)count) - 1;
        printf("%s\"%g\": %.1f", i ? ", " : "", at[i] * 100,
               count ? values[rank < 0 ? 0 : rank] * 1e6 : -1.0);
    }
    printf("}");
}

static char **read_lines(const char *path, long *count) {
    FILE *file = fopen(path, "r");
    char **lines = NULL, text[4096];
    if (!file) fail(path);
    for (*count = 0; fgets(text, sizeof text, file); ++*count) {
        if (!(*count & (*count - 1))) lines = realloc(lines, sizeof *lines * (size_t)(*count * 2 + 1));
        text[strcspn(text, "\n")] = 0;
        lines[*count] = strdup(text);
    }
    fclose(file);
    return lines;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: pace PORT METHOD PATH RATE SECONDS CONNECTIONS COOKIES\n");
        return 2;
    }
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    int connection_count = atoi(argv[6]);
    long total = (long)(rate * seconds), cookie_count;
    char **cookies = read_lines(argv[7], &cookie_count), request[4096];
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    epoll_fd = epoll_create1(0);
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    queue = calloc((size_t)total + 1, sizeof *queue);
    latencies = calloc((size_t)total + 1, sizeof *latencies);
    lags = calloc((size_t)total + 1, sizeof *lags);
    for (int i = 0; i < connection_count; i++) open_connection(i), become_idle(i);
    int punctual = be_punctual();

    /* By the time of the first request all connections have been accepted.
     * A timer wakes us when the next request is due, to the microsecond. */
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX}, events[MAX_EVENTS];
    if (timer < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event)) fail("timerfd");

    long scheduled = 0, sent = 0, most_queued = 0;
    double begun = now() + 0.1, due = begun, last = 0;
    while (answered + broken < total) {
        double time = now();
        for (; scheduled < total && due <= time; scheduled++) {
            lags[scheduled] = time - due;
            queue[scheduled] = due;
            due += -log(1 - uniform()) / rate;
            last = time;
        }
        while (sent < scheduled && idle_count) {
            struct connection *c = &connections[idle[--idle_count]];
            int size = snprintf(request, sizeof request,
                                "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: session=%s\r\n"
                                "%s\r\n", argv[2], argv[3], cookies[sent % cookie_count],
                                strcmp(argv[2], "POST") ? "" : "Content-Length: 0\r\n");
            c->due = queue[sent++];
            c->busy = 1;
            if (send(c->fd, request, (size_t)size, MSG_NOSIGNAL) != size && errno != EPIPE &&
                errno != ECONNRESET) fail("send");
        }
        if (scheduled - sent > most_queued) most_queued = scheduled - sent;
        if (scheduled == total && time > last + DRAIN_SECONDS) break;
        /* Once the last is due, the timer must be disarmed: while it says so, nobody sleeps. */
        struct itimerspec at = {.it_value = {0}};
        if (scheduled < total)
            at.it_value = (struct timespec){(time_t)due, (long)(fmod(due, 1) * 1e9)};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        int ready = epoll_wait(epoll_fd, events, MAX_EVENTS, 100);
        for (int i = 0; i < ready; i++)
            if (events[i].data.u32 != UINT32_MAX) receive((int)events[i].data.u32);
    }
    double took = now() - begun;
    printf("{\"scheduled\": %ld, \"sent\": %ld, \"answered\": %ld, \"refused\": %ld, "
           "\"broken\": %ld, \"most_queued\": %ld, \"seconds\": %.4f, \"schedule_seconds\": %.4f, "
           "\"punctual\": %s",
           scheduled, sent, answered, refused, broken, most_queued, took, last - begun,
           punctual ? "true" : "false");
    print_quantiles("latency", latencies, answered);
    print_quantiles("lag", lags, scheduled);
    printf("}\n");
    return 0;
}
