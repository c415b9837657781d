#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What launch/test.sh has no time for:
#   launch/sanitizers.sh [asan] [ubsan] [tsan] [tsan-openmp] [valgrind]
# Without names asan, tsan-openmp and valgrind, in about an hour on two cores: asan finds what ubsan does, and tsan-openmp
# runs what tsan does.
# asan          the tests of the preset cpu, under the address and undefined-behaviour sanitizers; some that cannot live
#               with these are not built (GF_SANITIZED)
# ubsan         the same under the latter alone, in less time and memory
# tsan          the thread sanitizer with g++, whose OpenMP it cannot see into: only the few tests of our own threads
#               (label `threads`, tests/CMakeLists.txt), on one OpenMP thread
# tsan-openmp   the tests of the preset cpu under the thread sanitizer; needs Debian's clang and libomp-dev, whose Archer
#               tells it of OpenMP's barriers. But for the tests that start mpirun, some 65 of 2,000: nobody tells it of
#               what Open MPI's threads hand over. The same code runs there over ranks that are threads of one process.
#               ignore_noninstrumented_modules (CMakePresets.json): libraries that are not compiled for it, libomp among
#               them, are believed. It would see the memcpy and free they call and not the atomics that order them, and
#               report races that are none
# valgrind      the tests of base, tensor, autodiff and io, but for a few, each with its reason below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PMIX_MCA_psec=native

failed=0
build() {
  cmake --preset "$1" --log-level=WARNING >/dev/null
  cmake --build --preset "$1" -- --quiet
}

# What stays out of valgrind, and why.
not_under_valgrind=(
  Human.DurationsNeverShowSixty               # its fused multiply-add gives a zero the other sign
  Signals.HandlersAndStackGoWithTheObject     # it still tells the place of a stack for handlers that was turned off
  Arena.GrowsAtItsEnd                         # it gives memory elsewhere than where it was asked for
  BinIdxFiles.OpensTenMillionDocumentsAtOnce  # is about a tenth of a second, which valgrind may take for any first call
)

# Programs compiled for this processor's widest vectors are beyond valgrind; AVX2 it knows.
run_valgrind() {
  local test
  cmake -S . -B build/valgrind -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGF_ARCH=x86-64-v3 \
    -DGF_TESTS=ON >/dev/null
  cmake --build build/valgrind --target test_base test_tensor test_autodiff test_io -- --quiet
  # oneDNN chooses its own kernels, also beyond what valgrind knows, unless told not to.
  export ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1
  for test in base tensor autodiff io; do
    # Children that tests let die on purpose have not freed what they had.
    valgrind --quiet --child-silent-after-fork=yes --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
      --errors-for-leak-kinds=definite "build/valgrind/tests/test_$test" --gtest_brief=1 \
      --gtest_filter="-$(IFS=: && echo "${not_under_valgrind[*]}")" || failed=1
  done
}

checks=("$@")
[[ ${#checks[@]} -gt 0 ]] || checks=(asan tsan-openmp valgrind)
for check in "${checks[@]}"; do
  printf '\n== %s\n' "$check"
  case $check in
    asan | ubsan | tsan | tsan-openmp)
      build "$check"
      ctest --preset "$check" -j "$(nproc)" --quiet --output-log "build/$check/ctest.log" || failed=1
      grep -E '^[0-9]+% tests passed|\(Failed\)|\(Timeout\)|SEGFAULT' "build/$check/ctest.log"
      ;;
    valgrind) run_valgrind ;;
    *)
      echo "launch/sanitizers.sh: there is no check $check; there are asan, ubsan, tsan, tsan-openmp and valgrind" >&2
      exit 2
      ;;
  esac
done
exit $failed
