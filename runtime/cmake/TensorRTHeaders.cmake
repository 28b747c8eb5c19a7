# Finds NvInferRuntime.h (TensorRT 10.1 or newer) and cuda_runtime_api.h; nothing is linked, because the libraries are
# opened at run time. If both are found, sets the target ptgc_tensorrt_headers; otherwise the backends tensorrt and
# tensorrt-rtx are left out.
#
# Searches -DTensorRT_ROOT (with include/) or -DTENSORRT_INCLUDE_DIR, -DCUDAToolkit_ROOT, $CUDA_HOME and
# /usr/local/cuda, and the system. No package index has these headers: they come with TensorRT, with JetPack, or from
# the folder include/ of github.com/NVIDIA/TensorRT.

set(TENSORRT_INCLUDE_DIR "" CACHE PATH "Folder of NvInferRuntime.h")
find_path(PTGC_TENSORRT_HEADERS NvInferRuntime.h
          HINTS "${TENSORRT_INCLUDE_DIR}" "${TensorRT_ROOT}" "$ENV{TensorRT_ROOT}" PATH_SUFFIXES include)
find_path(PTGC_CUDA_HEADERS cuda_runtime_api.h
          HINTS "${CUDAToolkit_ROOT}" "$ENV{CUDAToolkit_ROOT}" "$ENV{CUDA_HOME}" /usr/local/cuda PATH_SUFFIXES include)
set(_version 0.0)
if(PTGC_TENSORRT_HEADERS)
  file(READ "${PTGC_TENSORRT_HEADERS}/NvInferVersion.h" _text)
  if(_text MATCHES "#define (NV_TENSORRT|TRT)_MAJOR(_ENTERPRISE)? ([0-9]+)")
    set(_major ${CMAKE_MATCH_3})
    string(REGEX MATCH "#define (NV_TENSORRT|TRT)_MINOR(_ENTERPRISE)? ([0-9]+)" _minor "${_text}")
    set(_version ${_major}.${CMAKE_MATCH_3})
  endif()
endif()
if(PTGC_CUDA_HEADERS AND _version VERSION_GREATER_EQUAL 10.1)
  message(STATUS "TensorRT headers: ${PTGC_TENSORRT_HEADERS} (${_version}), CUDA headers: ${PTGC_CUDA_HEADERS}")
  add_library(ptgc_tensorrt_headers INTERFACE)
  target_include_directories(ptgc_tensorrt_headers SYSTEM INTERFACE "${PTGC_TENSORRT_HEADERS}" "${PTGC_CUDA_HEADERS}")
elseif(TENSORRT_INCLUDE_DIR OR TensorRT_ROOT)
  message(FATAL_ERROR "TensorRT was asked for, and there is no NvInferRuntime.h of TensorRT 10.1 or newer or no "
                      "cuda_runtime_api.h (${PTGC_TENSORRT_HEADERS}, version ${_version}; ${PTGC_CUDA_HEADERS}). Set "
                      "-DTENSORRT_INCLUDE_DIR and -DCUDAToolkit_ROOT, or neither.")
else()
  message(STATUS "TensorRT headers: not found; left out: tensorrt, tensorrt-rtx (-DTensorRT_ROOT=... finds them)")
endif()
