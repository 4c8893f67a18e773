#!/usr/bin/env bash
# Assemble a CUDA 13.0 compiler from PyPI wheels, for compiling the kernels (CHATNAP_BUILD_KERNELS=1)
# on a machine that has neither NVIDIA's installer nor a GPU. A build with the ready-made kernels needs none.
#
#   .ci/cuda-toolkit.sh [DIR]          default: ~/.cache/cuda-toolkit-13.0
#   eval "$(.ci/cuda-toolkit.sh DIR)"  prints the exports that a build needs
set -euo pipefail
dir=${1:-$HOME/.cache/cuda-toolkit-13.0}
if [[ ! -e $dir/ready ]]; then
  mkdir -p "$dir"
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
  wheel=$(echo "$dir"/venv/lib/python3*/site-packages/nvidia/cu13)
  ln -sfn "$wheel/bin" "$dir/bin"
  ln -sfn "$wheel/include" "$dir/include"
  ln -sfn "$wheel/nvvm" "$dir/nvvm"
  touch "$dir/ready"
fi
echo "export CUDA_HOME=$dir PATH=$dir/bin:\$PATH"
