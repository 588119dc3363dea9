find_package(PkgConfig REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd>=1.5)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium>=1.0.18)
find_package(Threads REQUIRED)
# liburing is linked statically: it is tiny, and containers of users rarely have it.
find_library(URING_STATIC liburing.a)
find_path(URING_INCLUDE liburing.h)
if(NOT URING_STATIC OR NOT URING_INCLUDE)
  message(FATAL_ERROR "liburing (static, 2.3 or later) is missing: run `make setup`")
endif()

file(GLOB_RECURSE LARDER_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cpp)
set(isa_avx2 -mavx2 -mfma -mbmi2 -mf16c -mpclmul)
set(isa_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vbmi -mavx512vbmi2 -mfma -mbmi2 -mf16c)
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(FILTER LARDER_SOURCES EXCLUDE REGEX "_avx(2|512)\\.cpp$")
endif()

add_library(larder_objects OBJECT ${LARDER_SOURCES})
target_include_directories(larder_objects PUBLIC ${PROJECT_SOURCE_DIR}/include PRIVATE ${PROJECT_SOURCE_DIR}/src ${URING_INCLUDE})
target_compile_options(larder_objects PRIVATE -fvisibility=hidden -fvisibility-inlines-hidden -fno-semantic-interposition)
if(LARDER_FUZZERS)
  target_compile_options(larder_objects PRIVATE -fsanitize=fuzzer-no-link)
endif()
target_link_libraries(larder_objects PRIVATE larder_flags PkgConfig::ZSTD PkgConfig::SODIUM Threads::Threads)
foreach(source ${LARDER_SOURCES})
  foreach(isa avx2 avx512)
    if(source MATCHES "_${isa}\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${isa_${isa}}")
    endif()
  endforeach()
endforeach()

# The shared library: only what src/larder.map lists is visible.
add_library(larder SHARED $<TARGET_OBJECTS:larder_objects>)
add_library(larder::larder ALIAS larder)
target_include_directories(larder INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(larder PRIVATE larder_flags PkgConfig::ZSTD PkgConfig::SODIUM ${URING_STATIC} Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(larder PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/larder.map)
target_link_options(larder PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/larder.map -Wl,--exclude-libs,ALL -Wl,-z,relro,-z,now -Wl,--as-needed)
if(NOT LARDER_SANITIZE)
  target_link_options(larder PRIVATE -Wl,-z,defs)
  if(LARDER_STATIC_LIBSTDCXX)
    target_link_options(larder PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endif()

# The static library: for programs that want one file, and for the tests that look inside.
add_library(larder_static STATIC $<TARGET_OBJECTS:larder_objects>)
add_library(larder::static ALIAS larder_static)
set_target_properties(larder_static PROPERTIES OUTPUT_NAME larder)
target_compile_definitions(larder_static INTERFACE LARDER_STATIC)
target_include_directories(larder_static INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(larder_static INTERFACE
  $<BUILD_INTERFACE:larder_flags> $<BUILD_INTERFACE:PkgConfig::ZSTD> $<BUILD_INTERFACE:PkgConfig::SODIUM>
  $<BUILD_INTERFACE:${URING_STATIC}> Threads::Threads ${CMAKE_DL_LIBS})
