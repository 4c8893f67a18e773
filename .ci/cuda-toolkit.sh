#!/usr/bin/env bash
# Assemble a CUDA 13.0 toolkit from PyPI wheels, for building with `--features cuda`
# on a machine that has neither NVIDIA's installer nor a GPU.
#
#   .ci/cuda-toolkit.sh [DIR]          default: ~/.cache/cuda-toolkit-13.0
#   eval "$(.ci/cuda-toolkit.sh DIR)"  prints the exports that a build needs
#
# The wheels contain libraries under versioned names only, and no driver. This script adds the
# unversioned links that the linker looks for and a stub libcuda.so. The stub is for linking only:
# at run time libcuda.so.1 comes from the NVIDIA driver.
set -euo pipefail
dir=${1:-$HOME/.cache/cuda-toolkit-13.0}
if [[ ! -e $dir/ready ]]; then
  mkdir -p "$dir"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 \
    nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14 >&2
  wheel=$(echo "$dir"/venv/lib/python3*/site-packages/nvidia/cu13)
  ln -sfn "$wheel/bin" "$dir/bin"
  ln -sfn "$wheel/include" "$dir/include"
  ln -sfn "$wheel/nvvm" "$dir/nvvm"
  mkdir -p "$dir/lib64/stubs"
  ln -sfn lib64 "$dir/lib"
  for file in "$wheel"/lib/lib*; do
    name=${file##*/}
    ln -sfn "$file" "$dir/lib64/$name"
    [[ $name == *.so.* ]] && ln -sfn "$file" "$dir/lib64/${name%%.so.*}.so"
  done
  grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$wheel/include/cuda.h" | grep -vE '_(st|enum|union|params|fn)$' |
    sort -u | sed 's/.*/#undef &\nvoid &(void) {}/' >"$dir/stub.c"
  gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$dir/lib64/stubs/libcuda.so" "$dir/stub.c"
  ln -sfn stubs/libcuda.so "$dir/lib64/libcuda.so"
  touch "$dir/ready"
fi
echo "export CUDA_HOME=$dir PATH=$dir/bin:\$PATH"
