# SPDX-License-Identifier: Apache-2.0
# add_cuda_sources(<target> FILE...): the kernels, as GF_CUDA says. ON: compiled by nvcc, for GPUs from Ampere (sm_80) on,
# whose code is kept as PTX too, so that a driver makes what any later GPU runs, and with what only Hopper (sm_90a) has.
# emulated: compiled for the CPU, over tests/cuda_emulation in place of NVIDIA's headers, so that what they compute is
# tested where there is no GPU.
if(GF_CUDA STREQUAL "emulated")
  find_package(Boost REQUIRED COMPONENTS context)
else()
  find_package(CUDAToolkit 12.4 REQUIRED)
  set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "")
  set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPUs to compile for")
  if(GF_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${GF_CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 does not know of it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
endif()

# cuDNN's attention. Its frontend is headers alone; Python's wheel of it puts them beside its packages.
if(NOT GF_CUDA STREQUAL "emulated")
  find_package(Python3 COMPONENTS Interpreter QUIET)
  if(Python3_FOUND)
    execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
      OUTPUT_VARIABLE python_packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(GF_CUDNN_FRONTEND cudnn_frontend.h HINTS ${python_packages}/include
    DOC "The folder of cuDNN's frontend headers, for its attention")
  find_path(GF_CUDNN_INCLUDE cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(GF_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT GF_CUDNN_FRONTEND OR NOT GF_CUDNN_INCLUDE OR NOT GF_CUDNN_LIBRARY)
    message(STATUS "Without cuDNN's attention, so with our own, which is slower. It wants cuDNN 9 and its frontend: "
      "pip install nvidia-cudnn-frontend, and where that is not found, -DGF_CUDNN_FRONTEND=<folder of cudnn_frontend.h>")
  endif()
endif()

# NCCL, of which the toolkit's own copy will do.
if(NOT GF_CUDA STREQUAL "emulated")
  find_path(GF_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(GF_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT GF_NCCL_INCLUDE OR NOT GF_NCCL_LIBRARY)
    message(STATUS "Without NCCL, so GPUs talk through memory of the CPU, which is slower. Debian: libnccl-dev; else "
      "-DGF_NCCL_INCLUDE=<folder of nccl.h> -DGF_NCCL_LIBRARY=<libnccl.so>")
  endif()
endif()

# add_nccl(<target> FILE): likewise.
function(add_nccl target file)
  if(GF_CUDA STREQUAL "emulated")
    target_sources(${target} PRIVATE ${file})
  elseif(GF_NCCL_INCLUDE AND GF_NCCL_LIBRARY)
    set_source_files_properties(${file} PROPERTIES INCLUDE_DIRECTORIES "${GF_NCCL_INCLUDE};${CUDAToolkit_INCLUDE_DIRS}")
    target_sources(${target} PRIVATE ${file})
    target_link_libraries(${target} PUBLIC ${GF_NCCL_LIBRARY})
  else()
    return()
  endif()
  target_compile_definitions(${target} PUBLIC GF_WITH_NCCL)
endfunction()

# add_cudnn(<target> FILE): the file that uses it, where there is one to use. Plain C++, and no business of nvcc.
function(add_cudnn target file)
  if(GF_CUDA STREQUAL "emulated" OR NOT GF_CUDNN_FRONTEND OR NOT GF_CUDNN_INCLUDE OR NOT GF_CUDNN_LIBRARY)
    return()
  endif()
  set_source_files_properties(${file} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS -xc++
    COMPILE_DEFINITIONS CUDNN_FRONTEND_SKIP_JSON_LIB INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS}")
  target_sources(${target} PRIVATE ${file})
  target_include_directories(${target} SYSTEM PRIVATE ${GF_CUDNN_FRONTEND} ${GF_CUDNN_INCLUDE})
  target_compile_definitions(${target} PRIVATE GF_WITH_CUDNN)
  set(GF_WITH_CUDNN ON PARENT_SCOPE)
  target_link_libraries(${target} PUBLIC ${GF_CUDNN_LIBRARY})
endfunction()

function(add_cuda_sources target)
  target_compile_definitions(${target} PUBLIC GF_WITH_CUDA)
  set(cudnn_file ${ARGN})
  list(FILTER cudnn_file INCLUDE REGEX "_cudnn.cu$")
  list(FILTER ARGN EXCLUDE REGEX "_cudnn.cu$")
  add_cudnn(${target} ${cudnn_file})
  add_nccl(${target} src/parallel/communicator_nccl.cpp)
  if(GF_CUDA STREQUAL "emulated")
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++;-Wno-unknown-pragmas")
    file(GLOB emulation CONFIGURE_DEPENDS tests/cuda_emulation/*.cpp)
    target_sources(${target} PRIVATE ${ARGN} ${emulation})
    target_include_directories(${target} SYSTEM BEFORE PUBLIC ${PROJECT_SOURCE_DIR}/tests/cuda_emulation)
    target_compile_definitions(${target} PUBLIC GF_CUDA_EMULATED)
    target_link_libraries(${target} PUBLIC Boost::context)
  else()
    # Objects by themselves: launch/test.sh compiles these alone.
    add_library(gf_kernels OBJECT ${ARGN})
    target_include_directories(gf_kernels PRIVATE ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(gf_kernels PRIVATE GF_WITH_CUDA)
    target_link_libraries(gf_kernels PRIVATE gf_compiler gf_dependencies)
    if(GF_WITH_CUDNN)
      target_compile_definitions(gf_kernels PRIVATE GF_WITH_CUDNN)
    endif()
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:gf_kernels>)
    set(flags --extended-lambda --expt-relaxed-constexpr -lineinfo -Xcompiler=-Wall,-fopenmp)
    if(GF_WARNINGS_AS_ERRORS)
      list(APPEND flags -Werror=all-warnings)
    endif()
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${flags}")
    target_link_libraries(${target} PUBLIC CUDA::cudart CUDA::cublasLt)
  endif()
endfunction()
