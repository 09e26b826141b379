// Torc client: which transport an address asks for. The one for memif needs DPDK, so it is a
// library
// of its own, libtorc-memif, loaded on first use: a client that does not ask for it needs no DPDK.
#include "client/address.h"
#include "client/transport.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define MEMIF_LIBRARY "libtorc-memif.so"
#define MEMIF_SYMBOL  "torc_transport_memif"
#define PATH_BYTES    4096

// Beside the file that this code came from, then in `client` beside its folder (a build tree).
static void *load_near(const char *inside)
{
    char path[PATH_BYTES];
    Dl_info info;
    const char *slash;
    int length;

    if (dladdr(&torc_transport_sock, &info) == 0 || info.dli_fname == NULL) {
        return NULL;
    }
    slash = strrchr(info.dli_fname, '/');
    length = slash == NULL ? 1 : (int)(slash - info.dli_fname);
    length = snprintf(path, sizeof(path), "%.*s%s/%s", length, slash == NULL ? "." : info.dli_fname,
                      inside, MEMIF_LIBRARY);
    return length > 0 && length < PATH_BYTES ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static const struct torc_transport_code *load_memif(struct torc_fail *why)
{
    const struct torc_transport_code *code = NULL;
    void *library = load_near("");

    library = library != NULL ? library : load_near("/../client");
    library = library != NULL ? library : dlopen(MEMIF_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library != NULL) {
        code = dlsym(library, MEMIF_SYMBOL);
    }
    if (code == NULL) {
        (void)torc_fail(why, TORC_ERR_UNSUPPORTED,
                        "%s was not found: this libtorc was built or installed without memif",
                        MEMIF_LIBRARY);
        return NULL;
    }
    if (code->version != TORC_TRANSPORT_VERSION) {
        (void)torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION, "%s has version %u, needed is %u",
                        MEMIF_LIBRARY, code->version, TORC_TRANSPORT_VERSION);
        return NULL;
    }
    return code; // the library stays loaded: DPDK cannot be taken out of a process
}

const struct torc_transport_code *torc_transport_find(const char *address, struct torc_fail *why)
{
    return torc_address_is_memif(address) ? load_memif(why) : &torc_transport_sock;
}
