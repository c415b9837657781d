#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs all tests; ends with the counts.
#   launch/test.sh                   the preset cpu
#   CUDA=1 launch/test.sh            and the CUDA kernels, emulated on the CPU: another build
#   SANITIZERS=1 launch/test.sh      and those that sanitizers serve best again under them: two more builds
#   CUDA=only, SANITIZERS=only       these alone
# Where nvcc is, the kernels are compiled too. Tests on a GPU itself: ctest --preset gpu (docs/gpu.md).
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
    select=(-R "^(gpu\\.)?($(IFS='|' && echo "$*"))\\.")
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

# By NVIDIA's compiler, without a warning.
compile_kernels() {
  local begin=$SECONDS
  if ! command -v nvcc >/dev/null && [[ ! -x /usr/local/cuda/bin/nvcc ]]; then return; fi
  printf '\n== cuda\n'
  cmake --preset cuda --log-level=WARNING >/dev/null
  cmake --build --preset cuda --target gf_kernels
  summary+=("$(printf 'cuda  the kernels compile, %d s' $((SECONDS - begin)))")
}

./launch/setup.sh test
if [[ ${SANITIZERS:-} != only && ${CUDA:-} != only ]]; then
  run cpu
  compile_kernels
fi
if [[ -n ${CUDA:-} ]]; then
  run cuda-emulated tensor autodiff ops parallel optim
fi
if [[ -n ${SANITIZERS:-} ]]; then
  run asan base tensor autodiff ops io
  run tsan io parallel optim
fi
printf '\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
