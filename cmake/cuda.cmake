# liblarder-cuda.so: found and opened at run time by liblarder, which itself knows no CUDA. It links neither libcuda nor the CUDA runtime: the driver
# is opened at run time, and the kernels travel inside as a fat binary.
find_program(LARDER_NVCC nvcc PATHS /usr/local/cuda/bin)
if(NOT LARDER_NVCC)
  message(FATAL_ERROR "LARDER_CUDA is ON, but nvcc was not found; set LARDER_NVCC, or LARDER_CUDA=OFF")
endif()
get_filename_component(nvcc_real ${LARDER_NVCC} REALPATH)
get_filename_component(cuda_bin ${nvcc_real} DIRECTORY)
find_path(LARDER_CUDA_INCLUDE cuda.h HINTS ${cuda_bin}/../include ${cuda_bin}/../targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include /usr/local/cuda/include)
if(NOT LARDER_CUDA_INCLUDE)
  message(FATAL_ERROR "LARDER_CUDA is ON, but cuda.h was not found beside ${LARDER_NVCC}; set LARDER_CUDA_INCLUDE, or LARDER_CUDA=OFF")
endif()

# Machine code for the data-centre GPUs, and PTX that newer and older ones compile when it is loaded.
set(LARDER_CUDA_GENCODE "arch=compute_75,code=compute_75;arch=compute_80,code=sm_80;arch=compute_90,code=sm_90" CACHE STRING "nvcc -gencode values")
set(gencode)
foreach(value ${LARDER_CUDA_GENCODE})
  list(APPEND gencode -gencode ${value})
endforeach()
set(fatbin ${CMAKE_BINARY_DIR}/larder-kernels.fatbin)
file(GLOB kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/kernels/*.h ${PROJECT_SOURCE_DIR}/cuda/tile/*.h)
add_custom_command(OUTPUT ${fatbin}
  COMMAND ${LARDER_NVCC} --fatbin -std=c++20 -O3 -fmad=false ${gencode} -o ${fatbin} ${PROJECT_SOURCE_DIR}/cuda/launch/kernels.cu
  DEPENDS ${PROJECT_SOURCE_DIR}/cuda/launch/kernels.cu ${kernel_headers}
  COMMENT "Compiling the CUDA kernels" VERBATIM)

set(launch ${PROJECT_SOURCE_DIR}/cuda/launch)
add_library(larder_cuda MODULE ${launch}/backend.cpp ${launch}/driver.cpp ${launch}/fatbin.cpp)
set_source_files_properties(${launch}/fatbin.cpp PROPERTIES OBJECT_DEPENDS ${fatbin} COMPILE_DEFINITIONS "LARDER_CUDA_FATBIN=\"${fatbin}\"")
target_include_directories(larder_cuda PRIVATE ${PROJECT_SOURCE_DIR}/include)
target_include_directories(larder_cuda SYSTEM PRIVATE ${LARDER_CUDA_INCLUDE})
target_compile_options(larder_cuda PRIVATE -fvisibility=hidden -fvisibility-inlines-hidden -fno-exceptions -fno-rtti)
target_link_libraries(larder_cuda PRIVATE larder_flags ${CMAKE_DL_LIBS})
target_link_options(larder_cuda PRIVATE -Wl,--version-script=${launch}/plugin.map -Wl,--exclude-libs,ALL -Wl,-z,relro,-z,now -Wl,--as-needed)
if(LARDER_STATIC_LIBSTDCXX AND NOT LARDER_SANITIZE)
  target_link_options(larder_cuda PRIVATE -static-libstdc++ -static-libgcc)
endif()
set_target_properties(larder_cuda PROPERTIES OUTPUT_NAME larder-cuda PREFIX lib LINK_DEPENDS ${launch}/plugin.map)
install(TARGETS larder_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
