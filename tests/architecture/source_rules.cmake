# SPDX-License-Identifier: Apache-2.0
# What every source file keeps: the licence line, one idea a file, one place that knows of CUDA, one that opens files, nothing
# left undone.
#   cmake -D ROOT=... -P source_rules.cmake
cmake_minimum_required(VERSION 3.25)
set(MOST_LINES 400)
set(KNOWS_CUDA src/tensor/on_device.h)
# Found in pieces, so that this file keeps the rule too.
set(UNDONE "TO" "FIX")
list(TRANSFORM UNDONE REPLACE "TO" "TO[D]O")
list(TRANSFORM UNDONE REPLACE "FIX$" "FIX[M]E")
list(JOIN UNDONE "|" UNDONE)

file(GLOB_RECURSE files RELATIVE ${ROOT}
  ${ROOT}/src/*.h ${ROOT}/src/*.cpp ${ROOT}/src/*.cu ${ROOT}/src/*.cuh ${ROOT}/tests/*.h ${ROOT}/tests/*.cpp ${ROOT}/tests/*.py
  ${ROOT}/tests/*.cmake ${ROOT}/bench/*.h ${ROOT}/bench/*.cpp ${ROOT}/bench/*.py ${ROOT}/cmake/*.cmake
  ${ROOT}/python/*.py ${ROOT}/launch/*.sh ${ROOT}/launch/*.sbatch)
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "no sources under ${ROOT}")
endif()
set(bad 0)
macro(complain)
  message(${ARGN})
  math(EXPR bad "${bad} + 1")
endmacro()

foreach(file IN LISTS files)
  file(STRINGS ${ROOT}/${file} head LIMIT_COUNT 2)
  if(NOT "${head}" MATCHES "^(#![^;]*;)?(//|#) SPDX-License-Identifier: Apache-2.0")
    complain("${file}: does not begin with the SPDX line")
  endif()
  file(STRINGS ${ROOT}/${file} undone REGEX "${UNDONE}")
  if(undone)
    complain("${file}: left undone: ${undone}")
  endif()
  if(file MATCHES "^src/")
    # It may jump (base/clock.h).
    file(STRINGS ${ROOT}/${file} wall_clock REGEX
      "system_clock|high_resolution_clock|utc_clock|file_clock|gettimeofday|timespec_get|ftime\\(|CLOCK_REALTIME|CLOCK_TAI|(^|[^A-Za-z0-9_.>])time\\((NULL|nullptr|0|&|\\))")
    if(wall_clock)
      complain("${file}: ${wall_clock}\n    the wall clock may jump; base/clock.h has one that does not")
    endif()
    # /proc, which base reads, has no errors to be seen.
    file(STRINGS ${ROOT}/${file} streams REGEX "#[ \t]*include <fstream>")
    if(streams AND NOT file MATCHES "^src/base/")
      complain("${file}: ${streams}\n    a stream hides errors; io/files.h has files whose errors are seen")
    endif()
    file(READ ${ROOT}/${file} text)
    string(REGEX REPLACE "[^\n]+" "" newlines "${text}")
    string(LENGTH "${newlines}" lines)
    if(lines GREATER MOST_LINES)
      complain("${file}: ${lines} lines, more than ${MOST_LINES}")
    endif()
    file(STRINGS ${ROOT}/${file} conditions REGEX "^[ \t]*#[ \t]*(el)?if.*(CUDA|NVCC)")
    if(conditions AND NOT file STREQUAL KNOWS_CUDA AND NOT file MATCHES "\\.cuh?$")
      complain("${file}: ${conditions}\n    only ${KNOWS_CUDA} asks whether there is CUDA")
    endif()
  endif()
endforeach()
if(bad)
  message(FATAL_ERROR "${bad} breaches of the rules of sources")
endif()
message("${count} files keep the rules")
