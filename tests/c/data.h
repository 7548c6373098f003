/*
 * The files that mint wrote, and the facts of a request made of them.
 */

#ifndef DATA_H
#define DATA_H

#include "../../examples/c/input.h"
#include "test.h"


#define NOW  1700000000


typedef struct {
    size_t   len;
    uint8_t  bytes[16384];
} data_t;


static char  *directory;


/* What a struct_size must at least be: up to the end of the last member, without the padding behind it. */

#define SIZE_UP_TO(type, member)  (offsetof(type, member) + sizeof(((type *) 0)->member))


static inline void
load(const char *name, data_t *data)
{
    int   rc;
    char  path[4096];

    snprintf(path, sizeof(path), "%s/%s", directory, name);

    if (strstr(name, ".der") != NULL) {
        rc = read_file(path, data->bytes, sizeof(data->bytes), &data->len);

    } else {
        rc = read_line(path, data->bytes, sizeof(data->bytes), &data->len);
    }

    if (rc != 0) {
        exit(3);
    }
}


static inline kb_str
str(const data_t *data)
{
    kb_str  s;

    s.ptr = data->bytes;
    s.len = data->len;

    return s;
}


static inline kb_facts
facts_for(kb_str authorization, const data_t *cert, uint32_t form)
{
    kb_facts  facts;

    memset(&facts, 0, sizeof(facts));
    facts.struct_size = sizeof(facts);
    facts.now_s = NOW;
    facts.authorization = authorization;
    facts.authorization_n = 1;
    facts.client_cert_form = form;

    if (cert != NULL) {
        facts.client_cert = str(cert);
    }

    return facts;
}


/* The decision of an earlier request, that must not stay. */

static inline kb_decision
old_allow(void)
{
    kb_decision  decision;

    fill(&decision);
    decision.struct_size = sizeof(decision);
    decision.step = KB_STEP_ALLOW;
    decision.reason = KB_REASON_ALLOWED;

    return decision;
}


static inline void
decide(const kb_engine *e, const kb_facts *facts, kb_decision *decision)
{
    *decision = old_allow();
    CHECK_EQ(kb_engine_decide(e, facts, decision), KB_OK);
}


#endif /* DATA_H */
