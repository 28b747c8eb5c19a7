# ptgc_debian_package(PACKAGE SUITE RESULT): unpacks a package into the user's cache folder and sets RESULT to
# where it lies, or to the empty string where that is not possible.

if(DEFINED ENV{PTGC_CACHE})
  set(PTGC_CACHE_DIR "$ENV{PTGC_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(PTGC_CACHE_DIR "$ENV{XDG_CACHE_HOME}/ptgc")
else()
  set(PTGC_CACHE_DIR "$ENV{HOME}/.cache/ptgc")
endif()

function(ptgc_debian_package package suite result)
  set(directory "${PTGC_CACHE_DIR}/debian/${suite}/${package}")
  set(${result} "" PARENT_SCOPE)
  if(NOT IS_DIRECTORY "${directory}")
    find_program(PTGC_APT_GET apt-get)
    if(NOT PTGC_APT_GET)
      return()
    endif()
    message(STATUS "Unpacking the package ${package} (${suite}) into ${directory}")
    execute_process(
      COMMAND sh "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/debian_package.sh" ${package} ${suite} ${directory}
      RESULT_VARIABLE status
      OUTPUT_VARIABLE log
      ERROR_VARIABLE log)
    if(NOT status EQUAL 0)
      message(STATUS "That failed:\n${log}")
      return()
    endif()
  endif()
  set(${result} "${directory}" PARENT_SCOPE)
endfunction()
