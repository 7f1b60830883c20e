#!/bin/sh
# The tests of the core against a build with AddressSanitizer and UndefinedBehaviorSanitizer: sanitize.sh .venv/bin [tests]
set -eu
BIN=$(cd "$1" && pwd); shift
cd "$(dirname "$0")/.."
ROOT=$PWD
export PATH="$BIN:$PATH"
mkdir -p build/sanitized/ssm_stream
cmake -S . -B build/sanitize -G Ninja -DSSM_ISAS=v3 -DSSM_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug -DPython_EXECUTABLE="$BIN/python" \
    -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$ROOT/build/sanitized"
ninja -C build/sanitize
# A copy of the package with the sanitized core: the build in place stays as it is.
rm -rf build/sanitized/ssm_stream && cp -r ssm_stream build/sanitized/ssm_stream
rm -f build/sanitized/ssm_stream/core/_core*.so && cp build/sanitized/_core*.so build/sanitized/ssm_stream/core/
# Python itself leaks at its end, and numpy's arrays are its own.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$ROOT/build/sanitized"
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
    "$BIN/python" -m pytest -n0 -q -p no:cacheprovider "${@:-tests/test_core.py}"
