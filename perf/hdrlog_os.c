// Torc perf: histograms in HdrHistogram's log format; see hdrlog_os.h.
#include "perf/hdrlog_os.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    V2_COOKIE = 0x1c849303 | 0x10,
    V2_COMPRESSED_COOKIE = 0x1c849304 | 0x10,
    V2_HEADER_BYTES = 40,
    DIGITS = 3
};

void torc_hdrlog_begin(FILE *file, double start_s)
{
    fprintf(file, "#[Histogram log format version 1.3]\n#[StartTime: %.3f (seconds since epoch)]\n",
            start_s);
    fprintf(file, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
                  "\"Interval_Compressed_Histogram\"\n");
}

static void put_be(unsigned char *to, uint64_t number, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        to[i] = (unsigned char)(number >> 8 * (bytes - 1 - i));
    }
}

// ZigZag, then LEB128 of at most nine bytes, the last of which is whole.
static uint32_t put_zigzag(unsigned char *to, int64_t number)
{
    uint64_t left = (uint64_t)number << 1 ^ (uint64_t)(number >> 63);
    uint32_t bytes = 0;

    while (left >= 0x80 && bytes < 8) {
        to[bytes++] = (unsigned char)(left | 0x80);
        left >>= 7;
    }
    to[bytes++] = (unsigned char)left;
    return bytes;
}

// Counts up to the last one that is not zero; a run of n zeros is -n.
static uint32_t put_counts(unsigned char *to, const struct torc_histogram *histogram)
{
    uint32_t end = torc_histogram_index(histogram->max) + 1;
    uint32_t bytes = 0;
    int64_t zeros = 0;

    for (uint32_t i = 0; i < end; i++) {
        if (histogram->counts[i] == 0) {
            zeros++;
            continue;
        }
        if (zeros > 0) {
            bytes += put_zigzag(to + bytes, -zeros);
            zeros = 0;
        }
        bytes += put_zigzag(to + bytes, (int64_t)histogram->counts[i]);
    }
    return bytes;
}

static void write_base64(FILE *file, const unsigned char *bytes, uint64_t count)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (uint64_t i = 0; i < count; i += 3) {
        uint32_t left = (uint32_t)torc_min_u64(count - i, 3);
        uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? (uint32_t)bytes[i + 2] : 0);

        for (uint32_t j = 0; j < 4; j++) {
            fputc(j <= left ? letters[word >> (18u - 6u * j) & 63u] : '=', file);
        }
    }
}

enum torc_err torc_hdrlog_add(FILE *file, const char *tag, double seconds,
                              const struct torc_histogram *histogram, struct torc_fail *why)
{
    const double one = 1.0;
    uint64_t ratio;
    uint64_t room = V2_HEADER_BYTES + UINT64_C(9) * (uint64_t)TORC_HISTOGRAM_COUNTS;
    unsigned char *plain = calloc(1, room);
    uLongf packed_bytes = compressBound(room);
    unsigned char *packed = malloc(8 + packed_bytes);
    uint32_t payload;
    enum torc_err err = TORC_ERR_OK;

    if (plain == NULL || packed == NULL) {
        err = torc_fail(why, TORC_ERR_IO, "no memory for a histogram of %lu bytes",
                        (unsigned long)room);
        goto out;
    }
    payload = put_counts(plain + V2_HEADER_BYTES, histogram);
    memcpy(&ratio, &one, sizeof(ratio));
    put_be(plain, V2_COOKIE, 4);
    put_be(plain + 4, payload, 4);
    put_be(plain + 12, DIGITS, 4);
    put_be(plain + 16, 1, 8);
    put_be(plain + 24, TORC_HISTOGRAM_VALUE_MAX, 8);
    put_be(plain + 32, ratio, 8);
    if (compress(packed + 8, &packed_bytes, plain, V2_HEADER_BYTES + payload) != Z_OK) {
        err = torc_fail(why, TORC_ERR_IO, "zlib cannot compress a histogram");
        goto out;
    }
    put_be(packed, V2_COMPRESSED_COOKIE, 4);
    put_be(packed + 4, packed_bytes, 4);
    fprintf(file, "Tag=%s,0.000,%.3f,%.3f,", tag, seconds, (double)histogram->max / 1e6);
    write_base64(file, packed, 8 + packed_bytes);
    fputc('\n', file);
out:
    free(packed);
    free(plain);
    return err;
}
