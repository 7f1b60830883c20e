#!/bin/sh
# Cross-compiles the core for aarch64, and compares what it computes, under qemu, with this machine's bits.
# CXX_AARCH64: the compiler (aarch64-linux-gnu-g++ of Debian's g++-aarch64-linux-gnu, or `python -m ziglang c++ -target
# aarch64-linux-musl`); QEMU: what runs the result (qemu-aarch64 of qemu-user).
set -eu
cd "$(dirname "$0")/.."
CXX=${CXX:-c++} CXX_AARCH64=${CXX_AARCH64:-aarch64-linux-gnu-g++} QEMU=${QEMU:-qemu-aarch64}
flags="-std=c++20 -O3 -DNDEBUG -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-deprecated-enum-float-conversion"
mkdir -p build/aarch64
# build NAME COMPILER OPTIONS
build() {
    for source in ssm_stream/core/process.cpp tests/fuzz/bits.cpp; do
        $2 $flags $3 -c "$source" -o "build/aarch64/$1-$(basename "$source" .cpp).o"
    done
    $2 $4 "build/aarch64/$1-process.o" "build/aarch64/$1-bits.o" -o "build/aarch64/$1"
}
build aarch64 "$CXX_AARCH64" "-DSSM_ISA=native" -static
case $(uname -m) in
    x86_64) build here "$CXX" "-DSSM_ISA=v2 -march=x86-64-v2" "" ;;
    *) build here "$CXX" "-DSSM_ISA=native" "" ;;
esac
here=$(build/aarch64/here)
there=$("$QEMU" build/aarch64/aarch64)
[ "$here" = "$there" ] || { printf 'other bits:\n  here    %s\n  aarch64 %s\n' "$here" "$there" >&2; exit 1; }
echo "aarch64: the same bits, $here"
