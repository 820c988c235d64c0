// SPDX-License-Identifier: Apache-2.0
//
// A TCP proxy that makes the way longer and not narrower: what comes in on one side goes out on the
// other a fixed time later, half of the round trip in each direction.
//
//     delay-proxy UPSTREAM_PORT ROUND_TRIP_NS     both ends on 127.0.0.1; prints the port it
//     listens on
//
// It ends when its standard input does, so that it cannot outlive whoever started it. A byte there
// is answered with a line: the bytes that have come from clients and from the server so far.
//
// DESIGN
//
//     client  --recv-->  flow[0]: chunk, chunk, chunk  --send-->  server
//             <--send--  chunk, chunk :flow[1]         <--recv--
//
// Every chunk carries the time at which it is due. All have the same delay, so that a flow's first
// chunk is its next one, and a timer on the earliest of all flows is enough. A flow holds as much
// as the way it stands for would: LIMIT bytes, at 10 ms the product of 6 GiB/s; a receiver that is
// slower than that is felt by the sender, as ever. The end of a stream is a chunk without bytes. A
// connection is accepted at once: the round trip that opening one costs on a real network is not
// added, and neither are its losses.
//
// One thread with epoll: it shares two cores with a client and a server, and copying is all it
// does.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 128 << 10,
    LIMIT = 64 << 20,
    EVENTS = 64,
};

struct chunk {
    struct chunk *next;
    uint64_t due;
    size_t start, end; // empty: the end of the stream
    char data[CHUNK];
};

struct flow {
    struct chunk *head, **tail;
    size_t queued;
    bool blocked; // the receiver takes no more for now
    bool ended;   // the sender has closed; the end may still be on its way
    bool shut;    // the receiver has been told
};

struct link;

struct end {
    struct link *link;
    int fd;
    uint32_t watched; // events that epoll knows of; 0: none, and the descriptor is not in the set
};

// Ends and flows: flow[i] goes from end[i] to end[1 - i].
struct link {
    struct end end[2];
    struct flow flow[2];
    struct link *next;
    bool dead; // closed; freed when no event of the batch at hand can name it any more
};

struct proxy {
    int epoll, timer, listener;
    uint16_t upstream;
    uint64_t delay;
    struct link *links;
    struct chunk *spare;
    uint64_t bytes[2]; // from clients, from the server
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static struct chunk *chunk_get(struct proxy *proxy)
{
    struct chunk *chunk = proxy->spare;
    if (chunk)
        proxy->spare = chunk->next;
    else if (!(chunk = malloc(sizeof(*chunk))))
        die("malloc");
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    return chunk;
}

static void chunk_put(struct proxy *proxy, struct chunk *chunk)
{
    chunk->next = proxy->spare;
    proxy->spare = chunk;
}

static void flow_push(struct flow *flow, struct chunk *chunk)
{
    *flow->tail = chunk;
    flow->tail = &chunk->next;
    flow->queued += chunk->end;
}

static void flow_pop(struct proxy *proxy, struct flow *flow)
{
    struct chunk *chunk = flow->head;
    flow->queued -= chunk->end;
    if (!(flow->head = chunk->next))
        flow->tail = &flow->head;
    chunk_put(proxy, chunk);
}

// Ends both connections; a side that still has something to say is reset.
static void link_kill(struct proxy *proxy, struct link *link)
{
    if (link->dead)
        return;
    link->dead = true;
    for (int i = 0; i < 2; i++) {
        struct linger reset = {.l_onoff = 1};
        if (!link->flow[0].shut || !link->flow[1].shut)
            setsockopt(link->end[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(link->end[i].fd);
        while (link->flow[i].head)
            flow_pop(proxy, &link->flow[i]);
    }
}

static void end_watch(struct proxy *proxy, struct end *end, uint32_t events)
{
    if (events == end->watched)
        return;
    // A hang-up is reported even to those who ask for nothing, hence out of the set with them.
    int op = !end->watched ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(proxy->epoll, op, end->fd, &event) < 0)
        die("epoll_ctl");
    end->watched = events;
}

static void link_watch(struct proxy *proxy, struct link *link)
{
    for (int i = 0; i < 2; i++) {
        const struct flow *out = &link->flow[i], *in = &link->flow[1 - i];
        uint32_t events = in->blocked ? EPOLLOUT : 0;
        if (!out->ended && out->queued < LIMIT)
            events |= EPOLLIN;
        end_watch(proxy, &link->end[i], events);
    }
}

// Takes in what has come from one end. Returns 0, or -1 when the connection is broken.
static int flow_fill(struct proxy *proxy, struct link *link, int side)
{
    struct flow *flow = &link->flow[side];
    struct chunk *chunk = chunk_get(proxy);
    ssize_t got = recv(link->end[side].fd, chunk->data, CHUNK, MSG_DONTWAIT);
    if (got < 0) {
        chunk_put(proxy, chunk);
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    chunk->end = (size_t)got;
    chunk->due = now_ns() + proxy->delay;
    flow->ended = got == 0;
    proxy->bytes[side] += (uint64_t)got;
    flow_push(flow, chunk);
    return 0;
}

// Sends what is due to the other end. Returns 0, or -1 when the connection is broken.
static int flow_drain(struct proxy *proxy, struct link *link, int side, uint64_t now)
{
    struct flow *flow = &link->flow[side];
    int to = link->end[1 - side].fd;
    flow->blocked = false;
    while (flow->head && flow->head->due <= now) {
        struct chunk *chunk = flow->head;
        if (chunk->start == chunk->end) {
            shutdown(to, SHUT_WR);
            flow->shut = true;
            flow_pop(proxy, flow);
            return 0;
        }
        ssize_t put = send(to, chunk->data + chunk->start, chunk->end - chunk->start,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
            flow->blocked = true;
            return 0;
        }
        if (put < 0)
            return -1;
        chunk->start += (size_t)put;
        if (chunk->start == chunk->end)
            flow_pop(proxy, flow);
    }
    return 0;
}

static void link_drain(struct proxy *proxy, struct link *link)
{
    uint64_t now = now_ns();
    if (link->dead)
        return;
    if (flow_drain(proxy, link, 0, now) < 0 || flow_drain(proxy, link, 1, now) < 0 ||
        (link->flow[0].shut && link->flow[1].shut))
        link_kill(proxy, link);
    else
        link_watch(proxy, link);
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void set_up(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl");
}

static void proxy_accept(struct proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0)
        return;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(proxy->upstream);
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof(address)) < 0) {
        struct linger reset = {.l_onoff = 1};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    struct link *link = calloc(1, sizeof(*link));
    if (!link)
        die("calloc");
    link->end[0] = (struct end){.link = link, .fd = client};
    link->end[1] = (struct end){.link = link, .fd = server};
    for (int i = 0; i < 2; i++) {
        set_up(link->end[i].fd);
        link->flow[i].tail = &link->flow[i].head;
    }
    link->next = proxy->links;
    proxy->links = link;
    link_watch(proxy, link);
}

static void end_event(struct proxy *proxy, struct end *end, uint32_t events)
{
    struct link *link = end->link;
    int side = end == &link->end[1];
    if (link->dead)
        return;
    if (events & EPOLLERR || (events & (EPOLLIN | EPOLLHUP) && !link->flow[side].ended &&
                              flow_fill(proxy, link, side) < 0))
        link_kill(proxy, link);
    else
        link_drain(proxy, link);
}

// Frees the dead; sets the timer for the first chunk that waits for its time alone.
static void proxy_settle(struct proxy *proxy)
{
    uint64_t first = UINT64_MAX;
    struct link *link, **at = &proxy->links;
    while ((link = *at)) {
        if (link->dead) {
            *at = link->next;
            free(link);
            continue;
        }
        for (int i = 0; i < 2; i++) {
            const struct flow *flow = &link->flow[i];
            if (flow->head && !flow->blocked && flow->head->due < first)
                first = flow->head->due;
        }
        at = &link->next;
    }
    if (!proxy->delay)
        return;
    struct itimerspec when = {0};
    if (first != UINT64_MAX) {
        when.it_value.tv_sec = (time_t)(first / 1000000000u);
        when.it_value.tv_nsec = (long)(first % 1000000000u);
    }
    timerfd_settime(proxy->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void proxy_watch(struct proxy *proxy, int fd, void *name)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = name};
    if (epoll_ctl(proxy->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static void proxy_timeout(struct proxy *proxy)
{
    uint64_t count;
    if (read(proxy->timer, &count, sizeof(count)) < 0 && errno != EAGAIN)
        die("timerfd");
    for (struct link *link = proxy->links; link; link = link->next)
        link_drain(proxy, link);
}

static void proxy_run(struct proxy *proxy)
{
    struct epoll_event events[EVENTS];
    char input;
    for (;;) {
        int count = epoll_wait(proxy->epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            void *name = events[i].data.ptr;
            if (name == &proxy->listener)
                proxy_accept(proxy);
            else if (name == &proxy->timer)
                proxy_timeout(proxy);
            else if (name)
                end_event(proxy, name, events[i].events);
            else if (read(STDIN_FILENO, &input, 1) <= 0)
                return;
            else
                dprintf(STDOUT_FILENO, "%llu %llu\n", (unsigned long long)proxy->bytes[0],
                        (unsigned long long)proxy->bytes[1]);
        }
        proxy_settle(proxy);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s UPSTREAM_PORT ROUND_TRIP_NS <pipe\n", argv[0]);
        return 2;
    }
    struct proxy proxy = {.upstream = (uint16_t)atoi(argv[1]),
                          .delay = strtoull(argv[2], NULL, 10) / 2};
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof(address);
    proxy.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (proxy.listener < 0 || bind(proxy.listener, (struct sockaddr *)&address, length) < 0 ||
        listen(proxy.listener, SOMAXCONN) < 0 ||
        getsockname(proxy.listener, (struct sockaddr *)&address, &length) < 0)
        die("listen");
    proxy.epoll = epoll_create1(EPOLL_CLOEXEC);
    proxy.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (proxy.epoll < 0 || proxy.timer < 0)
        die("epoll and timer");
    proxy_watch(&proxy, proxy.listener, &proxy.listener);
    proxy_watch(&proxy, proxy.timer, &proxy.timer);
    proxy_watch(&proxy, STDIN_FILENO, NULL);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    proxy_run(&proxy);
    return 0;
}
