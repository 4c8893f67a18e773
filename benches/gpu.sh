#!/usr/bin/env bash
# Checks and times the CUDA engine on a machine with an NVIDIA card. Builds nothing and fetches nothing:
#
#   benches/gpu.sh GPU_PROGRAM MODEL.gguf...
#
# GPU_PROGRAM is the example `gpu` (cargo build --release --features cuda --example gpu); it needs no toolkit where it runs.
# For speed the models' shape counts and not what they say, so synthesised weights do. With cuBLASLt on LD_LIBRARY_PATH
# the prefill uses it, else the program's own matrix product.
set -uo pipefail
program=$1
shift
failed=0
step() {
  echo "## $*"
  "$@" || failed=1
}
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv || true
step "$program" bandwidth
"$program" kernels | grep -v '^ok' || true
if [ "${PIPESTATUS[0]}" -ne 0 ]; then failed=1; fi
if command -v compute-sanitizer >/dev/null; then
  echo "## compute-sanitizer"
  compute-sanitizer --error-exitcode 9 "$program" kernels | tail -3
  if [ "${PIPESTATUS[0]}" -ne 0 ]; then failed=1; fi
fi
for model in "$@"; do
  # A file that the CPU can run in reasonable time is compared with it.
  if [ "$(stat -c %s "$model")" -lt 300000000 ]; then
    step "$program" compare 0.05 100 "$model"
    step "$program" compare 0.05 2000 "$model"
    step "$program" cycles 50 "$model"
  fi
  step "$program" speed "$model"
done
exit $failed
