// Torc control: opening a metastore by its address. See control/metastore_open_os.h.
#include "control/metastore_open_os.h"

#include "control/meta_file_os.h"
#include "control/metastore_http.h"

#include <string.h>

enum torc_err torc_metastore_open(struct torc_metastore **out,
                                  const struct torc_metastore_config *config, struct torc_fail *why)
{
    uint8_t machine[TORC_JOURNAL_MACHINE_BYTES];

    *out = NULL;
    if (strncmp(config->address, "file:", 5) == 0) {
        torc_machine_id(machine);
        return torc_metastore_open_file(out, config->address + 5, machine, config->look_only, why);
    }
    if (strncmp(config->address, "etcd:", 5) == 0) {
        return torc_metastore_open_etcd(out, config, why);
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "metastore = %.80s: file:/DIRECTORY or etcd:HOST:PORT expected",
                     config->address);
}
