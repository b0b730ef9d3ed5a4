/* An open-loop load generator: requests leave at a fixed rate, whether or not earlier ones were
 * answered, as devices send them. (wrk waits for each answer before it sends again.)
 *
 * Usage: open_loop PORT REQUESTS_PER_SECOND SECONDS [new|kept]
 * `new` opens a connection for each request, as a device that reports once a minute does; `kept`
 * reuses connections that are idle. Each request is a single reading of a vehicle.
 *
 * Prints a line for each status: the status, how many, and p50, p99 and maximum of the time from
 * the instant at which the request was due to its whole answer, in ms. Status 0 stands for a
 * connection that broke, 1 for no answer within 30 s, 2 for requests that were not sent because
 * this process ran out of connections. "no_retry_after N" counts refusals without Retry-After.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 60000, STATUSES = 600, VEHICLES = 10000, ADDRESSES = 200 };
enum { BROKEN = 0, UNANSWERED = 1, NOT_SENT = 2 };
static const double PATIENCE_SECONDS = 30;

struct client {
    double due;
    int busy;
    int sent;
    int received;
    char answer[2048];
};
static struct client clients[MOST_FILES];
static int idle[MOST_FILES], idles, open_files, poll_fd, port, reuse;
static float *latencies[STATUSES];
static long counts[STATUSES], sizes[STATUSES], no_retry_after, vehicle;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void note(int status, double due) {
    if (status < 0 || status >= STATUSES) status = BROKEN;
    if (counts[status] == sizes[status]) {
        sizes[status] = sizes[status] ? 2 * sizes[status] : 4096;
        latencies[status] = realloc(latencies[status], sizes[status] * sizeof(float));
    }
    latencies[status][counts[status]++] = (now() - due) * 1000;
}

static void drop(int fd) {
    clients[fd].busy = 0;
    close(fd);
    open_files--;
}

static void finish(int fd, int status, int keep) {
    note(status, clients[fd].due);
    clients[fd].busy = 0;
    if (keep && reuse) idle[idles++] = fd;
    else drop(fd);
}

static void post(int fd) {
    char body[160], request[400];
    long number = vehicle++ % VEHICLES;
    int length = snprintf(body, sizeof body,
        "{\"vehicleId\":\"V%ld\",\"soc\":81.5,\"kwhDeliveredDc\":1.25,\"batteryTemp\":32.1}", number);
    int size = snprintf(request, sizeof request,
        "POST /v1/ingest/vehicle HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %d\r\n\r\n%s", length, body);
    if (send(fd, request, size, MSG_NOSIGNAL) != size) finish(fd, BROKEN, 0);
    else clients[fd].sent = 1;
}

static int begin(double due) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int on = 1;
    if (reuse && idles) {
        int fd = idle[--idles];
        clients[fd] = (struct client){.due = due, .busy = 1};
        post(fd);
        return 1;
    }
    if (open_files >= MOST_FILES - 100) return 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || fd >= MOST_FILES) return 0;
    open_files++;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + vehicle % ADDRESSES);
    bind(fd, (struct sockaddr *)&from, sizeof from);
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    clients[fd] = (struct client){.due = due, .busy = 1};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        finish(fd, BROKEN, 0);
    return 1;
}

static void receive(int fd) {
    struct client *client = &clients[fd];
    for (;;) {
        int room = sizeof client->answer - 1 - client->received;
        int size = recv(fd, client->answer + client->received, room, 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) {
            if (client->busy) finish(fd, BROKEN, 0);
            else { /* an idle connection that the server closed */
                for (int i = 0; i < idles; i++) if (idle[i] == fd) { idle[i] = idle[--idles]; break; }
                drop(fd);
            }
            return;
        }
        client->received += size;
        client->answer[client->received] = 0;
        char *end = strstr(client->answer, "\r\n\r\n");
        char *length = strcasestr(client->answer, "content-length:");
        if (!end || !length) continue;
        if (client->received < (end + 4 - client->answer) + atoi(length + 15)) continue;
        int status = atoi(client->answer + 9);
        if (status == 503 && !strcasestr(client->answer, "retry-after:")) no_retry_after++;
        finish(fd, status, !strcasestr(client->answer, "connection: close"));
        return;
    }
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    struct epoll_event events[512];
    struct rlimit files = {MOST_FILES, MOST_FILES};
    if (argc < 4) return 2;
    setrlimit(RLIMIT_NOFILE, &files);
    port = atoi(argv[1]);
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    reuse = argc > 4 && !strcmp(argv[4], "kept");
    poll_fd = epoll_create1(0);
    double began = now(), last = began + seconds, swept = began;
    long due = 0;
    for (;;) {
        double at = now();
        for (int most = 0; most < 1000 && at < last && due < (at - began) * rate; most++) {
            double instant = began + due++ / rate;
            if (!begin(instant)) note(NOT_SENT, instant);
        }
        int ready = epoll_wait(poll_fd, events, 512, 1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if ((events[i].events & EPOLLOUT) && clients[fd].busy && !clients[fd].sent) {
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error) { finish(fd, BROKEN, 0); continue; }
                post(fd);
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(fd);
        }
        if (at - swept > 0.5) {
            long waiting = 0;
            for (int fd = 0; fd < MOST_FILES; fd++)
                if (clients[fd].busy) {
                    if (at - clients[fd].due > PATIENCE_SECONDS) finish(fd, UNANSWERED, 0);
                    else waiting++;
                }
            swept = at;
            if (at >= last && !waiting) break;
        }
    }
    for (int status = 0; status < STATUSES; status++)
        if (counts[status]) {
            qsort(latencies[status], counts[status], sizeof(float), ascending);
            printf("%d %ld %.1f %.1f %.1f\n", status, counts[status],
                latencies[status][counts[status] / 2], latencies[status][counts[status] * 99 / 100],
                latencies[status][counts[status] - 1]);
        }
    printf("no_retry_after %ld\n", no_retry_after);
    return 0;
}
