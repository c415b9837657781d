#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy (.clang-tidy says which checks and why not others) and cppcheck over src/ and bench/.
#   launch/lint.sh [FILE...]     some minutes for all; exit status 1 where something was found
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
files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then mapfile -t files < <(find src bench -name '*.cpp' | LC_ALL=C sort); fi

failed=0
# clang does not know all of gcc's warnings, and cannot vectorise all that gcc can; neither is a fault of the code.
printf '%s\n' "${files[@]}" |
  xargs -P "$(nproc)" -n 4 clang-tidy -p build/cpu --quiet \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-pass-failed 2>/dev/null || failed=1
# Left out: what takes a compiler to know (unknown macros, missing system headers), and matters of taste that the
# formatter or clang-tidy has its say in. An Error thrown through main() is meant to end the process.
cppcheck --quiet --std=c++20 --language=c++ --inline-suppr --error-exitcode=1 -j "$(nproc)" -I src \
  --enable=warning,performance,portability \
  --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=throwInEntryPoint --suppress=passedByValue \
  "${files[@]}" || failed=1
if [[ $failed -eq 0 ]]; then echo "nothing found in ${#files[@]} files"; fi
exit "$failed"
