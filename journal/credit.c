#include "credit.h"

void credit_init (struct credit *c, uint64_t granted)
{
    c->balance = 0;
    credit_grant (c, granted);
}

void credit_grant (struct credit *c, uint64_t bytes)
{
    /* balance <= CREDIT_MAX always holds, so the room is never negative; it is larger when bytes are owed. */
    const uint64_t room = (uint64_t) (CREDIT_MAX - c->balance);
    c->balance += (int64_t) (bytes < room ? bytes : room);
}

bool credit_is_open (const struct credit *c)
{
    return c->balance > 0;
}

size_t credit_target (const struct credit *c, size_t wish)
{
    if (c->balance <= 0)
        return 1;
    const size_t target = (uint64_t) c->balance < wish ? (size_t) c->balance : wish;
    return target ? target : 1;
}

void credit_spend (struct credit *c, size_t bytes)
{
    c->balance -= (int64_t) bytes;
}
