#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes the parsers of outside files with libFuzzer (clang, and Debian's libclang-rt-14-dev and libomp-dev).
#   launch/fuzz.sh [SECONDS] [TARGET...]    each target for so many seconds, 60; targets: those of tests/fuzz/corpus
# What it finds is left as build/fuzz/found/TARGET-*, to be mended and then kept in tests/fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
targets=("${@:2}")
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/fuzz.sh [SECONDS] [TARGET...]" >&2
  exit 2
fi
if [[ ${#targets[@]} -eq 0 ]]; then mapfile -t targets < <(ls tests/fuzz/corpus); fi

cmake --preset fuzz --log-level=WARNING >/dev/null
cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"
failed=0
mkdir -p build/fuzz/found
for target in "${targets[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"  # what it learns grows here, not among the files of the project
  printf '\n== %s, %s seconds\n' "$target" "$seconds"
  "build/fuzz/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/found/$target-" "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" 2>&1 |
    grep -vE '^#[0-9]+' || failed=1
done
exit $failed
