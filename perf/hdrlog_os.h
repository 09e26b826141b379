// Torc perf: histograms in HdrHistogram's log format, which its plotters and processors read.
//
// What    one interval line a histogram: `Tag=read,start,length,max,base64(...)` with the V2
//         compressed encoding (cookie 0x1c849304 around 0x1c849303).
// Owner   whoever holds the file.
// Sources HdrHistogram's log format 1.3 and V2 encoding, as its Java implementation writes them.
#ifndef TORC_PERF_HDRLOG_OS_H
#define TORC_PERF_HDRLOG_OS_H

#include "kit/fail.h"
#include "kit/histogram.h"

#include <stdio.h>

// The lines before the first histogram. `start_s`: Unix time.
void torc_hdrlog_begin(FILE *file, double start_s);

// One histogram, of `seconds` from the beginning on. IO when memory or zlib fail.
enum torc_err torc_must_use torc_hdrlog_add(FILE *file, const char *tag, double seconds,
                                            const struct torc_histogram *histogram,
                                            struct torc_fail *why);

#endif
