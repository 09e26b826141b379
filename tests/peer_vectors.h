// Torc tests: the vectors of messages between nodes; see peer_vectors.c.
#ifndef TORC_TESTS_PEER_VECTORS_H
#define TORC_TESTS_PEER_VECTORS_H

#include <stdint.h>

typedef void torc_vector_print(const char *name, const unsigned char *bytes, uint32_t byte_count);

void torc_peer_vectors(torc_vector_print *print);

#endif
