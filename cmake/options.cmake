option(LARDER_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(LARDER_STATIC_LIBSTDCXX "Link libstdc++ and libgcc into liblarder.so (OFF for distributions)" ON)
option(LARDER_DEBUG "Check invariants and the use of destroyed handles" OFF)
option(LARDER_WERROR "Warnings are errors" OFF)
option(LARDER_FUZZERS "Build libFuzzer targets (clang)" OFF)
set(LARDER_SANITIZE "" CACHE STRING "Sanitizers, such as address,undefined or thread")
set(LARDER_CUDA AUTO CACHE STRING "Build liblarder-cuda.so: AUTO (where nvcc is found), ON, OFF")
set_property(CACHE LARDER_CUDA PROPERTY STRINGS AUTO ON OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

if(LARDER_CUDA STREQUAL "AUTO")
  # A plain look for nvcc: check_language() would cache a failure as an error later on.
  find_program(LARDER_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(LARDER_NVCC)
    set(LARDER_CUDA ON)
  else()
    set(LARDER_CUDA OFF)
  endif()
endif()

# Flags of all our own code. No contraction: every result has one rounding, the same on scalar, SIMD and GPU.
add_library(larder_flags INTERFACE)
target_compile_options(larder_flags INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -ffp-contract=off>
  # -Wrestrict: false alarms in GCC 12 about std::string.
  $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-braces -Wno-restrict>
  $<$<AND:$<BOOL:${LARDER_WERROR}>,$<COMPILE_LANGUAGE:C,CXX>>:-Werror>)
target_compile_definitions(larder_flags INTERFACE $<$<BOOL:${LARDER_DEBUG}>:LARDER_DEBUG=1>)
if(LARDER_SANITIZE)
  target_compile_options(larder_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${LARDER_SANITIZE} -fno-omit-frame-pointer>)
  target_link_options(larder_flags INTERFACE -fsanitize=${LARDER_SANITIZE})
  if(LARDER_SANITIZE MATCHES "undefined")
    target_compile_options(larder_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=undefined>)
  endif()
endif()
