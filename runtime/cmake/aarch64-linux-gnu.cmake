# Compiles for 64-bit ARM Linux on another machine: -DCMAKE_TOOLCHAIN_FILE=runtime/cmake/aarch64-linux-gnu.cmake with
# Debian's or Ubuntu's package g++-aarch64-linux-gnu, in any of its versions (docs/embedding.md).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
if(NOT CMAKE_CXX_COMPILER)
  find_program(CMAKE_CXX_COMPILER REQUIRED
    NAMES aarch64-linux-gnu-g++ aarch64-linux-gnu-g++-15 aarch64-linux-gnu-g++-14 aarch64-linux-gnu-g++-13
          aarch64-linux-gnu-g++-12 aarch64-linux-gnu-g++-11)
endif()
# Headers of the host's packages may be used, but its libraries and programs must not be taken for the target's.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
