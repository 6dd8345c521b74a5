/* sim_world: one run: publishers, journals and subscribers, drawn from the seed, with a list of faults; then quiet, in which everything must come
 * right; then the logs and what everybody got are compared with what was published. */

#ifndef FM_TESTS_SIM_WORLD_H
#define FM_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

enum { SIM_FAULTS_MAX = 24 };

struct sim_result {
    char failure[512];                      /* "": none */
    unsigned faults;                        /* that the seed drew */
    uint64_t facts, virtual_ns;
};

/* left_out: a bit for each fault that does not happen. */
void sim_world_run (uint64_t seed, uint32_t left_out, struct sim_result *ret_result);

#endif
