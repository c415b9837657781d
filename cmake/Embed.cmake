# SPDX-License-Identifier: Apache-2.0
# embed_text(<target> <header> NAME=FILE...): makes <header>, to be included under that name, with the text of each file
# as a constant. Written anew when a file changes.
function(embed_text target header)
  set(text "// Made by cmake/Embed.cmake.\n#pragma once\nnamespace gf {\n")
  foreach(item IN LISTS ARGN)
    string(REGEX MATCH "^([A-Za-z]+)=(.*)$" matched "${item}")
    set(name ${CMAKE_MATCH_1})
    set(file ${PROJECT_SOURCE_DIR}/${CMAKE_MATCH_2})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} content)
    string(REPLACE "@" "@at@" content "${content}")  # for file(CONFIGURE), which leaves an unchanged header alone
    string(APPEND text "inline constexpr char ${name}[] = R\"gf-text(${content})gf-text\";\n")
  endforeach()
  string(APPEND text "}  // namespace gf\n")
  set(at "@")
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/${header} CONTENT "${text}" @ONLY)
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()
