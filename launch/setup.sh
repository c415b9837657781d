#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what launch/packages.txt lists and this machine lacks; silent where nothing is missing.
#   launch/setup.sh [test]     with what the tests need
# Where nothing can be installed (no apt-get, or neither root nor sudo) it says what is missing and leaves the rest to
# CMake, which may find the same libraries elsewhere: conda, spack, a cluster's modules.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kinds=build
[[ "${1:-}" == test ]] && kinds='build|test'
packages=$(awk -v kinds="^($kinds)$" '$1 ~ kinds { print $2 }' launch/packages.txt)

missing=()
if command -v dpkg-query >/dev/null; then
  for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ "$state" == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -eq 0 ]] && exit 0
fi

as_root=()
can_install=yes
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    can_install=no
  elif [[ -t 0 ]]; then
    as_root=(sudo)
  elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    can_install=no
  fi
fi

if [[ ${#missing[@]} -gt 0 && $can_install == yes ]] && command -v apt-get >/dev/null; then
  echo "installing: ${missing[*]}"
  apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >/dev/null
  exit 0
fi

# Nothing can be installed here. The compiler and CMake are needed to find out whether that matters.
tools=()
for tool in c++ cmake ninja; do
  command -v "$tool" >/dev/null || tools+=("$tool")
done
if [[ ${#missing[@]} -gt 0 ]]; then
  echo "launch/setup.sh: not installed, and neither root nor sudo is at hand: ${missing[*]}" >&2
  echo "  try: sudo apt-get install ${missing[*]}" >&2
fi
if [[ ${#tools[@]} -gt 0 ]]; then
  echo "launch/setup.sh: not found: ${tools[*]}. Needed are a C++20 compiler (g++ 12 or newer) with OpenMP, CMake 3.25 or newer," >&2
  echo "  Ninja, an MPI, and the libraries oneDNN, HDF5 (C), yaml-cpp, nlohmann-json, fmt, Eigen 3, Boost.Program_options, xxHash and zlib" >&2
  [[ "$kinds" == build ]] || echo "  and for the tests GoogleTest, Python 3 with h5py, and h5dump" >&2
  exit 2
fi
