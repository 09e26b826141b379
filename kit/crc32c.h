// Torc kit: CRC32C (Castagnoli), as iSCSI (RFC 3720, B.4), ext4 and SCTP use it.
//
// What    one function; SSE4.2's instruction where the build's floor has it, a table elsewhere.
// Owner   none: pure.  Memory  none.
#ifndef TORC_KIT_CRC32C_H
#define TORC_KIT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// The CRC of `bytes`, continued from `crc` (0 to begin): crc(ab) == crc(crc(0, a), b).
uint32_t torc_crc32c(uint32_t crc, const void *bytes, size_t byte_count);

// The same in plain C, as the oracle of the other.
uint32_t torc_crc32c_plain(uint32_t crc, const void *bytes, size_t byte_count);

#endif
