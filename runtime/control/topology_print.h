/* topology_print.h: an app as tables for people: what `shove check` prints. Control and cli. */
#ifndef SHOVE_CONTROL_TOPOLOGY_PRINT_H
#define SHOVE_CONTROL_TOPOLOGY_PRINT_H

#include <stdio.h>

#include "core/topology.h"

/* Every topic that will be used and every group, one a row, columns aligned, then the warnings. */
void shove_topology_print(const struct shove_topology *topology, FILE *out);

#endif
