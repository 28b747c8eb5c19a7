# nlohmann/json, header only, from the Python package of that name or from the system.

execute_process(
  COMMAND "${Python_EXECUTABLE}" -c "import nlohmann_json; print(nlohmann_json.get_include())"
  OUTPUT_VARIABLE _include
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET)
find_path(PTGC_JSON_HEADERS nlohmann/json.hpp HINTS "${_include}")
if(NOT PTGC_JSON_HEADERS)
  message(FATAL_ERROR "nlohmann/json.hpp was not found. Install it: ${Python_EXECUTABLE} -m pip install nlohmann-json")
endif()
add_library(ptgc_json_headers INTERFACE)
target_include_directories(ptgc_json_headers SYSTEM INTERFACE "${PTGC_JSON_HEADERS}")
