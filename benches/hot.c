/*
 * The hot path as a C host calls it: the same token and the same certificate again and again. Prints nanoseconds a call; under
 * callgrind (--toggle-collect=kb_engine_decide) the instructions are counted instead.
 *
 *     hot CONFIG AUTHORIZATION CERT.der CALLS
 */

#define _POSIX_C_SOURCE 199309L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keybound.h"

#define NOW 1800000000

static kb_str
read_file(const char *name)
{
    static uint8_t  buffers[3][512 * 1024];
    static size_t   used;
    uint8_t        *buffer = buffers[used++];
    FILE           *f = fopen(name, "rb");
    kb_str          str;

    if (f == NULL) {
        perror(name);
        exit(2);
    }
    str.ptr = buffer;
    str.len = fread(buffer, 1, sizeof(buffers[0]), f);
    fclose(f);
    return str;
}

static void
allow(const kb_engine *engine, const kb_facts *facts)
{
    kb_decision  decision;

    memset(&decision, 0, sizeof(decision));
    decision.struct_size = sizeof(decision);
    if (kb_engine_decide(engine, facts, &decision) != KB_OK || decision.step != KB_STEP_ALLOW) {
        fprintf(stderr, "refused: %s\n", kb_reason_code(decision.reason));
        exit(1);
    }
}

int
main(int argc, char **argv)
{
    kb_engine       *engine;
    kb_facts         facts;
    kb_str           config;
    struct timespec  start, end;
    double           best = 1e18, ns;
    long             i, round, calls;

    if (argc != 5) {
        fprintf(stderr, "usage: hot CONFIG AUTHORIZATION CERT.der CALLS\n");
        return 2;
    }
    config = read_file(argv[1]);
    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = NOW;
    facts.authorization = read_file(argv[2]);
    facts.authorization_n = 1;
    facts.client_cert = read_file(argv[3]);
    facts.client_cert_form = KB_CERT_DER;
    calls = atol(argv[4]);

    if (kb_engine_new(config.ptr, config.len, &engine, NULL, 0, NULL) != KB_OK) {
        fprintf(stderr, "the configuration is refused\n");
        return 2;
    }
    for (round = 0; round < 20; round++) {
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (i = 0; i < calls; i++) {
            allow(engine, &facts);
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        ns = ((double) (end.tv_sec - start.tv_sec) * 1e9 + (double) (end.tv_nsec - start.tv_nsec)) / (double) calls;
        best = ns < best ? ns : best;
    }
    printf("%.1f\n", best);
    kb_engine_free(engine);
    return 0;
}
