#!/bin/sh
# The tests of what runs in the core, against a build with AddressSanitizer and UndefinedBehaviorSanitizer; with
# SANITIZE=thread those of what runs in several threads at once, by ThreadSanitizer. A finding ends the run.
# sanitize.sh .venv/bin [tests]
set -eu
BIN=$(cd "$1" && pwd); shift
cd "$(dirname "$0")/.."
ROOT=$PWD
export PATH="$BIN:$PATH"
# The compiler's own sanitizers: CXX, else g++.
CXX=${CXX:-g++}
isa=native
[ "$(uname -m)" != x86_64 ] || isa=v3
SANITIZE=${SANITIZE:-address,undefined}
cmake -S . -B build/sanitize -G Ninja -DSSM_ISAS=$isa "-DSSM_SANITIZE=$SANITIZE" -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_COMPILER=$CXX" \
    "-DPython_EXECUTABLE=$BIN/python" "-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=$ROOT/build/sanitize"
ninja -C build/sanitize
# A copy of the package with the sanitized core: the build in place stays as it is.
rm -rf build/sanitized && mkdir -p build/sanitized && cp -r ssm_stream build/sanitized/ssm_stream
rm -f build/sanitized/ssm_stream/core/_core*.so && cp build/sanitize/_core*.so build/sanitized/ssm_stream/core/
# An editable install finds its modules before any path: here it must not.
cat > build/sanitized/sitecustomize.py <<'END'
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
END
# Safe path: else the folder that this runs in comes first, with the core in place. Python itself leaks at its end.
export PYTHONSAFEPATH=1 PYTHONPATH="$ROOT/build/sanitized" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1
if [ "$SANITIZE" = thread ]; then
    run="setarch -R" LD_PRELOAD=$("$CXX" -print-file-name=libtsan.so)  # its shadow memory has fixed places
    [ $# != 0 ] || set -- tests/test_side_by_side.py
else
    run="" LD_PRELOAD="$("$CXX" -print-file-name=libasan.so) $("$CXX" -print-file-name=libubsan.so)"
fi
export LD_PRELOAD
used=$($run python -c "import ssm_stream.core as core; print(core.native.__file__)")
case $used in "$ROOT/build/sanitized/"*) ;; *) echo "not the sanitized core: $used" >&2; exit 1 ;; esac
if [ $# = 0 ]; then
    for name in core golden state_check engine state fuzz_state snapshot_format fast_json encoder decoder columns labels alerts \
        alert_details category_texts detectors novelty cycle_shape learner multiple_targets explain feedback finite entity_limiter ttl rounds \
        fleet_alerts events poison silence limits derive side_by_side wire_client windows readings summaries store pools single_event; do set -- "$@" "tests/test_$name.py"; done
fi
exec $run python -m pytest -q -p no:cacheprovider "$@"
