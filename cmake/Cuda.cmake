# SPDX-License-Identifier: Apache-2.0
# add_cuda_sources(<target> FILE...): the kernels, as GF_CUDA says. ON: compiled by nvcc, for GPUs from Ampere (sm_80) on,
# and with what only Hopper (sm_90a) has. emulated: compiled for the CPU, over tests/cuda_emulation in place of NVIDIA's
# headers, so that what they compute is tested where there is no GPU.
if(GF_CUDA STREQUAL "emulated")
  find_package(Boost REQUIRED COMPONENTS context)
else()
  find_package(CUDAToolkit 12.4 REQUIRED)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "")
  set(CMAKE_CUDA_ARCHITECTURES "80-real;90a-real" CACHE STRING "GPUs to compile for")
  if(GF_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${GF_CCACHE})
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
endif()

function(add_cuda_sources target)
  target_compile_definitions(${target} PUBLIC GF_WITH_CUDA)
  if(GF_CUDA STREQUAL "emulated")
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS -xc++)
    file(GLOB emulation CONFIGURE_DEPENDS tests/cuda_emulation/*.cpp)
    target_sources(${target} PRIVATE ${ARGN} ${emulation})
    target_include_directories(${target} SYSTEM BEFORE PUBLIC ${PROJECT_SOURCE_DIR}/tests/cuda_emulation)
    target_compile_definitions(${target} PUBLIC GF_CUDA_EMULATED)
    target_link_libraries(${target} PUBLIC Boost::context)
  else()
    target_sources(${target} PRIVATE ${ARGN})
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS
      "--extended-lambda;--expt-relaxed-constexpr;-lineinfo;-Xcudafe=--display_error_number")
    target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublasLt)
  endif()
endfunction()
