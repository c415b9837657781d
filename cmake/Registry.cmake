# SPDX-License-Identifier: Apache-2.0
# check_registry(<def file> <macro> <pattern>): each MACRO(name) of a .def file must have the file that the pattern
# names with @ for the name. So an op without its test does not configure.
function(check_registry def macro pattern)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${def})
  file(STRINGS ${def} lines REGEX "^${macro}\\(")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^${macro}\\(([a-z0-9_]+).*" "\\1" name "${line}")
    string(REPLACE "@" ${name} file ${pattern})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${def} lists ${name}, but there is no ${file}")
    endif()
  endforeach()
endfunction()
