# SPDX-License-Identifier: Apache-2.0
# gf_compiler: the flags of all our code.
add_library(gf_compiler INTERFACE)
# Flags of C++; nvcc, which passes few on to the compiler behind it, gets its own (cmake/Cuda.cmake).
macro(gf_options)
  foreach(flag ${ARGN})
    target_compile_options(gf_compiler INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${flag}>)
  endforeach()
endmacro()
# No -ffast-math: a NaN must stay a NaN, and two runs must have the same bits. What only affects errno and traps
# is given up; a kernel that wants a vectorised sum says so with `omp simd reduction`.
gf_options(-Wall -Wextra $<$<CXX_COMPILER_ID:GNU>:-Wshadow=local> -ffp-contract=fast -fno-math-errno -fno-trapping-math)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of g++ 12: its own AVX-512 header (GCC bug 105593) and std::string concatenation (105651).
  gf_options(-Wno-maybe-uninitialized -Wno-restrict)
  if(GF_SANITIZE)
    gf_options(-Wno-uninitialized)  # the same header, at the sanitizers' -O1
  endif()
endif()
# Messages name a source file as it is called in the project, wherever that was built.
gf_options(-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(GF_WARNINGS_AS_ERRORS)
  gf_options(-Werror)
endif()
if(GF_ARCH)
  gf_options(-march=${GF_ARCH})
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # On AMD's processors g++ would take a product and a sum for each step of a long sum, where one instruction does both:
    # the sum alone is sooner there, which is for sums that wait for each other. Ours go side by side; and where one
    # loop has it and another not, the same sum has other bits.
    gf_options(-mprefer-vector-width=512 --param=avoid-fma-max-bits=0)
  endif()
endif()
if(GF_SANITIZE)
  list(JOIN GF_SANITIZE "," sanitizers)
  gf_options(-fsanitize=${sanitizers} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(gf_compiler INTERFACE -fsanitize=${sanitizers})
  target_compile_definitions(gf_compiler INTERFACE GF_SANITIZED)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND GF_SANITIZE)
  gf_options(-Wno-pass-failed)  # checked loops are not vectorised
endif()
if(GF_FUZZ)
  gf_options(-fsanitize=fuzzer-no-link)
endif()
find_program(GF_CCACHE ccache)
if(GF_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${GF_CCACHE})
endif()
