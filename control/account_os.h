// Torc control: the account of memory of both processes.
//
// What    the dataplane's account from the channel (kit/chan.h), and control's own mappings.
// Owner   control's one thread; reading its own mappings takes some 0.2 ms.
// Memory  none.
#ifndef TORC_CONTROL_ACCOUNT_OS_H
#define TORC_CONTROL_ACCOUNT_OS_H

#include "kit/chan.h"

struct torc_account {
    uint64_t rows[TORC_MEMORY_COUNT];
    uint64_t sum_bytes;      // of the rows
    uint64_t resident_bytes; // of both processes; what they share counts once
    uint64_t hugetlb_bytes;  // beside these
    uint64_t measured_ns;    // the dataplane's part; 0: there is none
};

// `chan` NULL: no dataplane is attached.
void torc_account_read(struct torc_account *account, const struct torc_chan *chan);

// How far the rows' sum is from resident and hugetlb memory, in thousandths of these.
int64_t torc_account_off(const struct torc_account *account);

#endif
