#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats the C++ sources by .clang-format.
#   launch/format.sh            in place
#   launch/format.sh --check    changes nothing; names the files that differ, exit status 1
# CLANG_FORMAT names another program than clang-format; versions differ in details, the project uses 14.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t files < <(find src tests bench -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort)
case "${1:-}" in
  "") "${CLANG_FORMAT:-clang-format}" -i "${files[@]}" ;;
  --check)
    "${CLANG_FORMAT:-clang-format}" --dry-run "${files[@]}" 2>&1 | sed -n 's/:[0-9]*:[0-9]*: warning: .*//p' | uniq -c |
      awk '{ print $2 ": " $1 " places" } END { exit NR > 0 }'
    ;;
  *) echo "usage: launch/format.sh [--check]" >&2; exit 2 ;;
esac
