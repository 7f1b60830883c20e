#!/bin/sh
# The fuzz targets of tests/fuzz, one after the other, with so many inputs each: fuzz.sh .venv/bin 10000000 [target …]
# A finding ends the run, and its input lies in build/fuzz.
set -eu
BIN=$(cd "$1" && pwd) RUNS=$2; shift 2
cd "$(dirname "$0")/.."
ROOT=$PWD
export PATH="$BIN:$PATH"
isa=native
[ "$(uname -m)" != x86_64 ] || isa=v3
cmake -S . -B build/fuzz -G Ninja -DSSM_FUZZ=ON -DSSM_ISAS=$isa
ninja -C build/fuzz
cd build/fuzz
# Memory that was freed is watched for a while: little of it is enough here.
export ASAN_OPTIONS=quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1
[ $# != 0 ] || set -- json state
for target in "$@"; do
    mkdir -p "corpus/$target"
    [ ! -d "$ROOT/tests/fuzz/corpus/$target" ] || cp "$ROOT/tests/fuzz/corpus/$target"/* "corpus/$target"
    echo "fuzz_$target: $RUNS inputs"
    "tests/fuzz/fuzz_$target" "-runs=$RUNS" -max_len=256 -reload=0 -print_final_stats=1 "corpus/$target"
done
