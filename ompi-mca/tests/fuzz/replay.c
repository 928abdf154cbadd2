/*
 * Runs the fuzz target on every input of its corpus once, where there is no fuzzer.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* No input is longer. */
#define INPUT_MAX 65536
/* All of them take a second, or ten under sanitizers. */
#define LIMIT_S 120

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *name)
{
    static uint8_t bytes[INPUT_MAX];
    FILE *file = fopen(name, "rb");
    uint8_t *exact;
    size_t size;

    if (file == NULL) {
        perror(name);
        return -1;
    }
    size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    printf("%s: %zu bytes\n", name, size);
    fflush(stdout);
    /* Of its own, so that a sanitizer sees where it ends. */
    exact = malloc(size > 0 ? size : 1);
    for (size_t i = 0; i < size; i++)
        exact[i] = bytes[i];
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    char pattern[4096];
    glob_t inputs;
    int rc = 0;

    alarm(LIMIT_S); /* an input for which something waits for ever ends the test */
    snprintf(pattern, sizeof(pattern), "%s/tests/fuzz/corpus/*", srcdir != NULL ? srcdir : ".");
    if (glob(pattern, 0, NULL, &inputs) != 0) {
        fprintf(stderr, "no inputs: %s\n", pattern);
        return 1;
    }
    for (size_t i = 0; i < inputs.gl_pathc; i++)
        rc |= replay(inputs.gl_pathv[i]);
    globfree(&inputs);
    return rc != 0;
}
