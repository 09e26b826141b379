// Torc storage: the tree's hot parts for AVX2. See storage/tree_code.h.
#define HOT_TABLE torc_tree_code_avx2
#define HOT_NAME  "avx2"

#include "storage/tree_hot.h"
