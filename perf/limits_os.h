// Torc perf: the limits of the machine: what one core gets from its memory, its disk and its
// kernel.
//
// What    each function measures one limit, for about as long as it is told, and returns a rate or
//         a duration. Memory in thread CPU time, the rest in wall time. perf/machine prints them
//         all; perf/tree-bench refers to the memory's.
// Owner   one thread; the ping-pong makes a second one.
// Memory  512 MiB of huge pages where there are some, while it runs.
#ifndef TORC_PERF_LIMITS_OS_H
#define TORC_PERF_LIMITS_OS_H

#include <stdbool.h>
#include <stdint.h>

// This thread's CPU time, and the time of day that never goes back, in seconds.
double limits_cpu_s(void);
double limits_wall_s(void);

// Random cache lines a second: each address known only from the line before, in `chains` (at most
// 16) chains at a time. 0: no memory.
double limits_random_lines(uint32_t chains, double seconds);

// Bytes a second.
double limits_sequential_read(double seconds);
double limits_memcpy(double seconds);

// Median microseconds of writing `bytes` at a file's end and fdatasync, in the folder; negative: it
// cannot be done there.
double limits_fdatasync_us(const char *folder, uint32_t bytes, double seconds);

// Bytes a second of reading a file past the page cache, 1 MiB at a time; negative: not there.
double limits_direct_read(const char *folder, double seconds);

// Median microseconds of a round trip over the kernel's UDP on loopback, polled or sleeping.
double limits_udp_us(bool busy, double seconds);

#endif
