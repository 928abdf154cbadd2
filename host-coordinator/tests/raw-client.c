/* Sends ninjad what no honest client sends. SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        perror(path);
        exit(1);
    }
    return fd;
}

/* Sends 'size' bytes; the answer must have 'text' in it, or the connection be cut if that is NULL.
 */
static void expect(const char *path, const char *what, const char *data, size_t size,
                   const char *text)
{
    int fd = dial(path);
    char answer[4096];
    ssize_t n = 0;

    if (send(fd, data, size, MSG_NOSIGNAL) >= 0 || errno == EPIPE)
        n = recv(fd, answer, sizeof(answer) - 1, 0);
    answer[n > 0 ? n : 0] = '\0';
    if (text ? n <= 0 || !strstr(answer, text) : n > 0 || (n < 0 && errno == EAGAIN)) {
        printf("%s: got %zd bytes: %s\n", what, n, answer);
        exit(1);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    static char flood[200000];
    const char *path = argv[1];

    if (argc != 2)
        return 2;
    expect(path, "no JSON", "hello\n", 6, "JSON object");
    expect(path, "an array", "[]\n", 3, "JSON object");
    expect(path, "no request", "{}\n", 3, "unknown request");
    expect(path, "wrong types", "{\"request\":\"migrate\",\"what\":[],\"to\":7}\n", 40,
           "no cluster or VM");
    expect(path, "a huge number", "{\"request\":\"explain\",\"move\":9223372036854775807}\n", 50,
           "no move");
    expect(path, "too many at a time", "{\"request\":\"migrate\",\"parallel\":999}\n", 37,
           "same time");
    expect(path, "a zero byte", "{}\0{}\n", 6, NULL);
    memset(flood, '[', sizeof(flood));
    expect(path, "an endless line", flood, sizeof(flood), NULL);
    memset(flood, '[', 60000);
    flood[60000] = '\n';
    expect(path, "deep nesting", flood, 60001, "JSON object");
    /* Cut off in the middle of a request, and gone before the answer. */
    close(dial(path));
    for (int i = 0; i < 100; i++) {
        int fd = dial(path);

        if (send(fd, "{\"request\":\"status\"}\n", 21, MSG_NOSIGNAL) < 0)
            return 1;
        close(fd);
    }
    puts("raw lines are answered or refused");
    return 0;
}
