// Torc storage: which of the tree's compiled variants this machine can run.
//
// What    asks the CPU (and the kernel, for the registers' state) once; call it at program start
//         and pass the table on. TORC_SIMD=plain|avx2|avx512 in the environment asks for less.
// Owner   none.  Memory  none: the tables are constant.
#ifndef TORC_STORAGE_CPU_OS_H
#define TORC_STORAGE_CPU_OS_H

#include "storage/tree_code.h"

const struct torc_tree_code *torc_tree_code_best(void);

// One by name, or NULL when this machine cannot run it.
const struct torc_tree_code *torc_tree_code_named(const char *name);

#endif
