#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy (.clang-tidy says which checks and why not others) over src/ and bench/, cppcheck over these and tests/.
#   launch/lint.sh [FILE...]     some minutes for all; exit status 1 where something was found
# Left out:
#   tests/ for clang-tidy    googletest's macros are most of what it would read, and nearly all tests run under the
#                            sanitizers, which see what its analyzer can only suspect. The warnings that are errors
#                            in src/ are there too
#   *.cu                     neither tool reads the dialect of our CUDA. Instead nvcc takes no warning of its own or of
#                            the compiler behind it (-Wall; preset cuda, which launch/test.sh compiles where nvcc is),
#                            and the emulation compiles the same files with all our warnings as errors (preset cuda-emulated)
# Needs Debian's clang-tidy, cppcheck, and libomp-dev for clang's omp.h.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for tool in clang-tidy cppcheck; do
  if ! command -v "$tool" >/dev/null; then
    echo "launch/lint.sh: $tool is not installed; try: apt-get install clang-tidy cppcheck libomp-dev" >&2
    exit 2
  fi
done
cmake --preset cpu --log-level=WARNING -DGF_BENCH=ON >/dev/null
cmake --build --preset cpu --target goldfinch -- --quiet  # makes the generated headers
files=("$@") tests=()
if [[ ${#files[@]} -eq 0 ]]; then
  mapfile -t files < <(find src bench -name '*.cpp' | LC_ALL=C sort)
  mapfile -t tests < <(find tests -name '*.cpp' | LC_ALL=C sort)
fi

failed=0
# clang does not know all of gcc's warnings and --params, and cannot vectorise all that gcc can; none is a fault of the
# code.
printf '%s\n' "${files[@]}" |
  xargs -P "$(nproc)" -n 4 clang-tidy -p build/cpu --quiet \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-unused-command-line-argument \
    --extra-arg=-Wno-pass-failed 2>/dev/null || failed=1
false_alarms=(
  mismatchingContainerExpression:tests/base/trace_test.cpp  # its begin() and end() are those of events
  constStatement:tests/io/data/sampler_test.cpp             # it stumbles over int64_t{i}
  containerOutOfBounds:tests/io/data/token_stream_test.cpp  # as if a loop from 0 to a constant might not run,
  invalidFunctionArg:tests/train/score_test.cpp             # and one over a vocabulary
  containerOutOfBounds:tests/train/generate_test.cpp        # a vocabulary past 257 is of 320 there
  danglingLifetime:tests/mpi/mpi_main.cpp                   # what main() holds is there as long as any test
  syntaxError:tests/ops/wkv6_kernels_test.cpp               # a lambda's template head,
  syntaxError:tests/tensor/arithmetic_test.cpp              # and TYPED_TEST, beyond it
)
# Left out: what takes a compiler to know (unknown macros, missing system headers), and matters of taste that the
# formatter or clang-tidy has its say in. An Error thrown through main() is meant to end the process.
cppcheck --quiet --std=c++20 --language=c++ --inline-suppr --error-exitcode=1 -j "$(nproc)" -I src \
  --enable=warning,performance,portability \
  --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=throwInEntryPoint --suppress=passedByValue \
  -I tests --library=googletest "${false_alarms[@]/#/--suppress=}" "${files[@]}" "${tests[@]}" || failed=1
if [[ $failed -eq 0 ]]; then echo "nothing found in $((${#files[@]} + ${#tests[@]})) files"; fi
exit "$failed"
