// Torc client: where the time of a traced operation went; see engine_state.h, torc.h.
//
// Sources PROTOCOL.md, section 4: the marks of a TRACE reply. They come from outside: what does not
// rise, or is longer than the whole took here, is not believed.
#include "client/engine_state.h"

#define SERVER_PARTS (TORC_TRACE_WIRE | TORC_TRACE_QUEUE | TORC_TRACE_TREE | TORC_TRACE_REPLY)

void torc_trace_begin(struct torc_engine *engine, uint32_t index)
{
    engine->ops[index].traced = true;
}

void torc_trace_mark(struct torc_engine *engine, uint32_t op_id, const uint8_t *rest,
                     uint32_t rest_bytes)
{
    uint32_t index = torc_op_find(engine, op_id);
    uint32_t offset = 0;
    struct torc_reply reply;

    engine->marked = TORC_OP_NONE;
    if (index == TORC_OP_NONE || !engine->ops[index].traced) {
        return;
    }
    while (torc_reply_next(rest, rest_bytes, &offset, &reply)) {
        if (reply.opcode == TORC_OPCODE_TRACE && reply.op_id == op_id &&
            torc_trace_decode(&reply, &engine->marks)) {
            engine->marked = index;
            return;
        }
    }
}

static bool marks_rise(const struct torc_trace_marks *marks, uint64_t total_ns)
{
    return marks->dequeued_ns <= marks->tree_ns && marks->tree_ns <= marks->logged_ns &&
           marks->logged_ns <= marks->durable_ns && marks->durable_ns <= marks->sent_ns &&
           marks->sent_ns != UINT32_MAX && marks->sent_ns <= total_ns;
}

void torc_trace_end(struct torc_engine *engine, uint32_t index)
{
    const struct torc_op *op = &engine->ops[index];
    const struct torc_trace_marks *marks = &engine->marks;
    struct torc_trace *trace = &engine->trace;

    engine->has_trace = true;
    *trace = (struct torc_trace){.user_data = op->user_data,
                                 .total_ns = engine->now_ns - op->begun_ns,
                                 .known = TORC_TRACE_TOTAL,
                                 .sends = op->sends};
    // The marks of a value in pieces are those of one piece.
    if (engine->marked != index || op->big != NULL || !marks_rise(marks, trace->total_ns)) {
        return;
    }
    trace->known |= SERVER_PARTS;
    trace->known |= op->kind == TORC_OP_WRITE ? TORC_TRACE_LOG | TORC_TRACE_SYNC : 0;
    trace->wire_ns = trace->total_ns - marks->sent_ns;
    trace->queue_ns = marks->dequeued_ns;
    trace->tree_ns = marks->tree_ns - marks->dequeued_ns;
    trace->log_ns = marks->logged_ns - marks->tree_ns;
    trace->sync_ns = marks->durable_ns - marks->logged_ns;
    trace->reply_ns = marks->sent_ns - marks->durable_ns;
}

bool torc_engine_trace(const struct torc_engine *engine, struct torc_trace *trace)
{
    *trace = engine->trace;
    return engine->has_trace;
}
