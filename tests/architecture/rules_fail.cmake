# SPDX-License-Identifier: Apache-2.0
# The two checks beside this one, over small trees with one fault each: they must find it.
#   cmake -D HERE=<this folder> -D SCRATCH=... -P rules_fail.cmake
cmake_minimum_required(VERSION 3.25)
set(licence "// SPDX-License-Identifier: Apache-2.0\n")

# expect(<script> <0 or 1> <file> <text>)
function(expect script fails file text)
  file(REMOVE_RECURSE ${SCRATCH})
  file(WRITE ${SCRATCH}/src/base/good.h "${licence}#pragma once\n")
  file(WRITE ${SCRATCH}/src/io/good.h "${licence}#pragma once\n")
  file(WRITE ${SCRATCH}/src/optim/good.h "${licence}#include \"base/good.h\"\n")
  file(WRITE ${SCRATCH}/${file} "${text}")
  execute_process(COMMAND ${CMAKE_COMMAND} -D ROOT=${SCRATCH} -P ${HERE}/${script}.cmake
    RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE said)
  if(fails AND (status EQUAL 0 OR NOT said MATCHES "${file}") OR NOT fails AND NOT status EQUAL 0)
    message(FATAL_ERROR "${script} over ${file} with\n${text}\nended with ${status}:\n${said}")
  endif()
endfunction()

expect(include_order 0 src/io/a.h "${licence}#include \"base/good.h\"\n#include <io/anything>\n")
expect(include_order 1 src/base/a.h "${licence}#include \"io/good.h\"\n")
expect(include_order 1 src/io/a.h "${licence}#include \"optim/good.h\"\n")
expect(include_order 1 src/optim/a.h "${licence}#include \"io/good.h\"\n")
expect(include_order 1 src/io/a.cpp "${licence}  # include \"train/none.h\"\n")
expect(include_order 1 src/io/a.h "${licence}#include \"good.h\"\n")
expect(include_order 1 src/io/a.h "${licence}#include \"io/missing.h\"\n")
expect(include_order 1 src/misc/a.h "${licence}")

string(REPEAT "int x;\n" 400 long)
expect(source_rules 0 src/tensor/on_device.h "${licence}#ifdef GF_WITH_CUDA\n#endif\n")
expect(source_rules 0 tests/a.py "#!/usr/bin/env python3\n# SPDX-License-Identifier: Apache-2.0\n")
expect(source_rules 1 src/base/a.h "#pragma once\n${licence}")
expect(source_rules 1 src/base/a.cpp "")
expect(source_rules 1 src/ops/a.cpp "${licence}#if defined(GF_WITH_CUDA)\n#endif\n")
expect(source_rules 1 src/ops/a.cpp "${licence}${long}")
string(CONCAT undone "// TO" "DO: later\n")
expect(source_rules 1 src/ops/a.cpp "${licence}${undone}")
file(REMOVE_RECURSE ${SCRATCH})
