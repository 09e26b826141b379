// Torc tests: torc.h from C++: it compiles without a warning, and its functions have C names.
#include "torc/torc.h"

#include <cstdio>
#include <cstring>

int main()
{
    torc_options options{};
    struct torc_message why = {}; // `struct`: a function has the same name, as with stat()
    torc_store *store = nullptr;
    torc_page page{};

    // Nobody listens there; what matters is that the call goes through.
    options.timeout_us = 1000;
    const torc_err err = torc_open("127.0.0.1:9", &options, &store, &why);

    if (err != TORC_ERR_NOT_CONNECTED || store != nullptr || std::strlen(why.text) == 0) {
        std::fprintf(stderr, "torc_open: %s: %s\n", torc_error_name(err), why.text);
        return 1;
    }
    torc_page_free(&page);
    torc_close(store);
    return std::strcmp(torc_version(), "0.1.0") == 0 ? 0 : 1;
}
