// Torc control: one field of a node's record is to say something. See control/note.h.
#include "control/note.h"

void torc_note_begin(struct torc_note *note, enum torc_note_kind kind, uint32_t node,
                     uint64_t value, uint32_t ticket)
{
    uint32_t serial = note->serial + 1;

    torc_assert(node > 0);
    *note = (struct torc_note){.kind = kind,
                               .open = kind != TORC_NOTE_DOWN || value != 0, // 0: it never began
                               .node = node,
                               .value = value,
                               .ticket = (uint64_t)serial << 32 | ticket,
                               .serial = serial};
    torc_record_name(note->name, "node", node);
}

bool torc_note_next(struct torc_note *note, uint64_t now_ns, struct torc_meta_request *request)
{
    if (!note->open || note->asked || now_ns < note->again_ns) {
        return false;
    }
    if (note->swapping) {
        return torc_swap_next(&note->swap, now_ns, request);
    }
    note->asked = true;
    *request = (struct torc_meta_request){
        .verb = TORC_META_GET, .ticket = note->ticket, .key = note->name};
    return true;
}

static void note_end(struct torc_note *note, enum torc_err err)
{
    note->open = false;
    note->err = err;
}

// Says it in `fields`; false: it is said there already, or no longer meant.
static bool note_say(const struct torc_note *note, struct torc_node_fields *fields)
{
    uint64_t *field = note->kind == TORC_NOTE_DOWN      ? &fields->down
                      : note->kind == TORC_NOTE_LEAVING ? &fields->leaving
                                                        : &fields->state;

    if (note->kind == TORC_NOTE_ALIVE) {
        return fields->boot == note->value;
    }
    if (*field == note->value ||
        (note->kind != TORC_NOTE_STATE && note->value != 0 && fields->boot != note->value)) {
        return false;
    }
    *field = note->value;
    return true;
}

static void note_read(struct torc_note *note, uint64_t now_ns,
                      const struct torc_meta_answer *answer, uint64_t nonce)
{
    struct torc_node_fields fields;
    struct torc_fail why;
    enum torc_err err = answer->err;

    if (err != TORC_ERR_OK && err != TORC_ERR_NOT_FOUND) {
        note->again_ns = now_ns + TORC_NOTE_PAUSE_NS;
        return;
    }
    if (err == TORC_ERR_OK) {
        err = torc_record_decode(TORC_RECORD_NODE, &fields, answer->records->value,
                                 answer->records->value_bytes, &why);
    }
    if (err != TORC_ERR_OK || !note_say(note, &fields)) {
        note_end(note, err);
        return;
    }
    fields.nonce = nonce;
    note->op = (struct torc_meta_op){.kind = TORC_META_PUT,
                                     .key = note->name,
                                     .value = note->text,
                                     .value_bytes =
                                         torc_record_encode(TORC_RECORD_NODE, &fields, note->text),
                                     .expected = answer->records->version};
    torc_swap_begin(&note->swap, &note->op, 1, note->ticket);
    note->swapping = true;
}

void torc_note_take(struct torc_note *note, uint64_t now_ns, const struct torc_meta_answer *answer,
                    uint64_t nonce)
{
    if (answer->ticket != note->ticket) {
        return; // of a note before this one
    }
    if (note->swapping) {
        torc_swap_take(&note->swap, now_ns, answer);
        if (torc_swap_is_over(&note->swap)) {
            note->swapping = false; // read again: it tells what there is
            note->again_ns = note->swap.state == TORC_SWAP_FAILED ? now_ns + TORC_NOTE_PAUSE_NS : 0;
            if (note->kind == TORC_NOTE_ALIVE && note->swap.state == TORC_SWAP_WON) {
                note_end(note, TORC_ERR_OK);
            }
        }
    } else if (note->asked) {
        note->asked = false;
        note_read(note, now_ns, answer, nonce);
    }
}

uint64_t torc_note_deadline_ns(const struct torc_note *note)
{
    if (!note->open || note->asked) {
        return UINT64_MAX;
    }
    return note->swapping ? torc_swap_deadline_ns(&note->swap) : note->again_ns;
}
