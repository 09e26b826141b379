// Torc storage: the tree's hot parts for any machine. See storage/tree_code.h.
#define HOT_TABLE torc_tree_code_plain
#define HOT_NAME  "plain"

#include "storage/tree_hot.h"
