#!/bin/sh
# Check the model: first as it is (no error may be found), then with each seeded fault (each must be found).
# usage: run.sh [BUILD_DIRECTORY]
set -eu
model=$(cd "$(dirname "$0")" && pwd)/handover.pml
where=${1:-build/model}
mkdir -p "$where"
cd "$where"

# check NAME CLAIM DEFINES...: prints "errors: N" of the search.
check () {
    name=$1 claim=$2
    shift 2
    mkdir -p "$name"
    (
        cd "$name"
        spin "$@" -a "$model" >spin.log 2>&1 || { cat spin.log; exit 2; }
        if [ "$claim" = assert ]; then
            cc -w -O2 -DSAFETY -DNOCLAIM -DMEMLIM=4096 -o pan pan.c
            ./pan -E -m1000000 >pan.log 2>&1
        elif [ "$claim" = live_end ]; then
            cc -w -O2 -DNFAIR=5 -DMEMLIM=4096 -o pan pan.c
            ./pan -E -a -f -N "$claim" -m1000000 >pan.log 2>&1
        else
            cc -w -O2 -DSAFETY -DMEMLIM=4096 -o pan pan.c
            ./pan -E -N "$claim" -m1000000 >pan.log 2>&1
        fi
        if grep -q 'max search depth too small' pan.log; then echo "cut off"; exit 0; fi
        sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log | head -1
    )
}

passed=0
failed=0
tell () { # what expected found
    case "$2 $3" in "none 0" | "some "[1-9]*) right=yes ;; *) right=no ;; esac
    if [ $right = yes ]; then
        passed=$((passed + 1)); echo "  ok      $1"
    else
        failed=$((failed + 1)); echo "  FAILED  $1: expected $2, the search found $3"
    fi
}

for claim in assert agree void_stays kept live_end; do
    tell "both topics, $claim" none "$(check "two-$claim" "$claim" -DFACTS=3)"
    tell "one topic of two, $claim" none "$(check "one-$claim" "$claim" -DFACTS=3 -DONE_TOPIC)"
done
tell "fault: prev of the exact topic only" some "$(check f1 assert -DFACTS=3 -DFAULT_EXACT_PREV)"
tell "fault: acknowledged before sync" some "$(check f2 assert -DFACTS=3 -DFAULT_ACK_BEFORE_SYNC)"
tell "fault: replay above synced" some "$(check f3 void_stays -DFACTS=3 -DFAULT_REPLAY_UNSYNCED)"
tell "fault: a sequence used again after a restart" some "$(check f4 assert -DFACTS=3 -DFAULT_SEQUENCE_REUSED)"
tell "fault: intake records out of order" some "$(check f5 assert -DFACTS=3 -DFAULT_INTAKE_OUT_OF_ORDER)"
tell "fault: a void declared by the publisher" some "$(check f6 kept -DFACTS=3 -DFAULT_PUBLISHER_VOIDS)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
