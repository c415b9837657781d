#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs all tests; ends with the counts.
#   launch/test.sh                   the preset cpu
#   SANITIZERS=1 launch/test.sh      and those that sanitizers serve best again under them: two more builds
#   SANITIZERS=only launch/test.sh   these alone
# Tests that need a GPU (label gpu) are not among them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

summary=()
failed=0

# run PRESET [FOLDER...]: builds the tests of these folders of tests/ (none: everything) and runs them.
run() {
  local preset=$1 begin=$SECONDS targets=() select=() quiet=() folder log closing
  shift
  for folder in "$@"; do
    if compgen -G "tests/$folder/*_test.cpp" >/dev/null; then targets+=("test_$folder"); fi
  done
  if [[ $# -gt 0 ]]; then
    targets=(--target "${targets[@]}")
    select=(-R "^($(IFS='|' && echo "$*"))\\.")
  fi
  [[ -t 1 ]] || quiet=(-- --quiet)
  printf '\n== %s\n' "$preset"
  cmake --preset "$preset" --log-level=WARNING >/dev/null
  cmake --build --preset "$preset" "${targets[@]}" "${quiet[@]}"
  log=$(mktemp)
  ctest --preset "$preset" -j "$(nproc)" "${select[@]}" | tee "$log" || failed=1
  closing=$(grep -E '^[0-9]+% tests passed' "$log" || echo "no test ran")
  rm -f "$log"
  summary+=("$(printf '%-5s %s, %d s with the build' "$preset" "$closing" $((SECONDS - begin)))")
}

./launch/setup.sh test
if [[ ${SANITIZERS:-} != only ]]; then run cpu; fi
if [[ -n ${SANITIZERS:-} ]]; then
  run asan base tensor autodiff ops io
  run tsan io parallel optim
fi
printf '\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
