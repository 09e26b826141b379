// Torc storage: the tree's hot parts for AVX-512 (F, BW, VL, DQ). See storage/tree_code.h.
#define HOT_TABLE torc_tree_code_avx512
#define HOT_NAME  "avx512"

#include "storage/tree_hot.h"
