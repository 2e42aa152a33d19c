/* login_trace.h: what the parser of logins says about some bytes, as text to compare.
 *
 *     bob=secret|      a login to judge; it is refused, and the parser goes on
 *     !CLIENT_ERROR unauthenticated|   CLOSE| */
#ifndef T_LOGIN_TRACE_H
#define T_LOGIN_TRACE_H

#include "proto/login.h"
#include "t/text_trace.h"

static inline void login_trace_event(struct trace *trace, enum login_event event,
                                     const struct login_request *request)
{
    switch (event) {
    case LOGIN_MORE:
        break;
    case LOGIN_TRY:
        trace_bytes(trace, request->user.data, request->user.size);
        trace_bytes(trace, "=", 1);
        trace_bytes(trace, request->password.data, request->password.size);
        trace_bytes(trace, "|", 1);
        break;
    case LOGIN_ANSWER:
        trace_reply(trace, request->reply);
        if (request->closes)
            trace_print(trace, "X|");
        break;
    case LOGIN_CLOSE:
        trace_print(trace, "CLOSE|");
        break;
    }
}

/* The trace of `bytes`, which come in pieces that end at `cuts`; free() its text. */
static inline struct trace login_trace(struct slice bytes, const size_t *cuts, size_t cut_count)
{
    struct trace trace = {0};
    struct login_parser parser;
    size_t used = 0, arrived = 0, next = 0;
    enum login_event event = LOGIN_MORE;
    trace_bytes(&trace, "", 0);
    login_init(&parser);
    while (event != LOGIN_CLOSE) {
        struct login_request request;
        size_t consumed, there = arrived - used;
        char *copy = malloc(there > 0 ? there : 1); /* nothing around it */
        assert(copy != NULL);
        memcpy(copy, (const char *)bytes.data + used, there);
        event = login_parse(&parser, slice_make(copy, there), &consumed, &request);
        assert(consumed <= there);
        used += consumed;
        login_trace_event(&trace, event, &request);
        free(copy);
        if (event != LOGIN_MORE)
            continue;
        if (arrived == bytes.size)
            break;
        while (next < cut_count && cuts[next] <= arrived)
            next++;
        size_t until = next < cut_count ? cuts[next] : bytes.size;
        if (until > used + LOGIN_INPUT_SIZE_MIN)
            until = used + LOGIN_INPUT_SIZE_MIN;
        assert(until > arrived); /* else it waits with a full buffer, for ever */
        arrived = until;
    }
    return trace;
}

#endif
