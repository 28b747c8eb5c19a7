# Finds onnxruntime_cxx_api.h; nothing is linked, the library is opened at run time. Older headers than the library
# are fine, because the C API only grows. Sets the target ptgc_onnxruntime_headers.
#
# Looked for in -DPTGC_ONNXRUNTIME_INCLUDE_DIR or the variable of the same name, on the system, in a Debian package of
# a newer suite, in a release archive.

include("${CMAKE_CURRENT_LIST_DIR}/DebianPackage.cmake")

set(PTGC_ONNXRUNTIME_INCLUDE_DIR "$ENV{PTGC_ONNXRUNTIME_INCLUDE_DIR}" CACHE PATH "Folder of onnxruntime_cxx_api.h")
set(_release 1.23.2)

function(_ptgc_try_headers)
  find_path(PTGC_ONNXRUNTIME_HEADERS onnxruntime_cxx_api.h
            PATHS ${ARGN} PATH_SUFFIXES onnxruntime onnxruntime/core/session NO_DEFAULT_PATH)
endfunction()

if(PTGC_ONNXRUNTIME_INCLUDE_DIR)
  _ptgc_try_headers("${PTGC_ONNXRUNTIME_INCLUDE_DIR}")
  if(NOT PTGC_ONNXRUNTIME_HEADERS)
    message(FATAL_ERROR "PTGC_ONNXRUNTIME_INCLUDE_DIR is ${PTGC_ONNXRUNTIME_INCLUDE_DIR}, where there is no "
                        "onnxruntime_cxx_api.h.")
  endif()
endif()
if(NOT PTGC_ONNXRUNTIME_HEADERS)
  _ptgc_try_headers(/usr/include /usr/local/include)
endif()
if(NOT PTGC_ONNXRUNTIME_HEADERS)
  ptgc_debian_package(libonnxruntime-dev trixie _package)
  if(_package)
    _ptgc_try_headers("${_package}/usr/include")
  endif()
endif()
if(NOT PTGC_ONNXRUNTIME_HEADERS)
  set(_name onnxruntime-linux-x64-${_release})
  set(_archive "${PTGC_CACHE_DIR}/${_name}.tgz")
  file(DOWNLOAD "https://github.com/microsoft/onnxruntime/releases/download/v${_release}/${_name}.tgz" "${_archive}"
       STATUS _status TIMEOUT 300)
  list(GET _status 0 _code)
  if(_code EQUAL 0)
    file(ARCHIVE_EXTRACT INPUT "${_archive}" DESTINATION "${PTGC_CACHE_DIR}" PATTERNS "*/include/*")
    _ptgc_try_headers("${PTGC_CACHE_DIR}/${_name}/include")
  endif()
  file(REMOVE "${_archive}")
endif()
if(NOT PTGC_ONNXRUNTIME_HEADERS)
  message(FATAL_ERROR "The headers of ONNX Runtime were not found, and neither the package libonnxruntime-dev nor a "
                      "release archive can be reached. Set -DPTGC_ONNXRUNTIME_INCLUDE_DIR to the folder of "
                      "onnxruntime_cxx_api.h (1.21 or newer).")
endif()
message(STATUS "ONNX Runtime headers: ${PTGC_ONNXRUNTIME_HEADERS}")
add_library(ptgc_onnxruntime_headers INTERFACE)
target_include_directories(ptgc_onnxruntime_headers SYSTEM INTERFACE "${PTGC_ONNXRUNTIME_HEADERS}")
