/* chance: numbers that look random and come again with their seed: xorshift64 (Marsaglia, "Xorshift RNGs", 2003). */

#ifndef FM_TESTS_CHANCE_H
#define FM_TESTS_CHANCE_H

#include <stdint.h>

/* The next of 2^64 - 1 numbers; never 0, and *state must not be. */
static inline uint64_t chance_next (uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline uint64_t chance_below (uint64_t *state, uint64_t below)
{
    return chance_next (state) % below;
}

#endif
