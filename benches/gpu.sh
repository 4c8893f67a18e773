#!/usr/bin/env bash
# Checks and times the CUDA engine on a machine with an NVIDIA GPU. Builds nothing and downloads nothing:
#
#   benches/gpu.sh [OPTION...] PROGRAMS
#
# PROGRAMS is a folder with `chatnap` and, there or in its `examples`, `gpu`: target/release after
# `cargo build --release --features gpu-checks --bin chatnap --example gpu`. They run without a CUDA toolkit.
# With cuBLASLt on LD_LIBRARY_PATH the prefill uses it, otherwise chatnap's own matrix product.
#
#   --models DIR        bf16.gguf, q4_k_m.gguf, q8_0.gguf; random weights do, as the speed depends on the shape only;
#                       the targets in the table are for the shape of Llama 3.1 8B on an H100
#   --generator "CMD"   generates each missing model in the background: CMD --type TYPE FILE
#   --small FILE        a real model that the CPU runs quickly: perplexity, comparison, cycles
#   --text FILE         input of the perplexity (default: LICENSE-APACHE)
#   --only A,B          run only these steps: see STEPS
#   --out DIR           log and figures (default: a new folder under /tmp)
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
STEPS=info,bandwidth,kernels,sampler,formats,smaller,fault,errors,small,perplexity,speed,short,bench,cold,cancel,chunks,depths,tui,replay,gpus,cycles,sanitizer
models='' generator='' small='' text=$root/LICENSE-APACHE only=$STEPS out=''
. "$root/benches/gpu_steps.sh"

median() { sort -g | awk '{a[NR]=$1} END {if (NR) print (NR % 2) ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }
figure() { printf 'figure\t%s\t%s\n' "$1" "$2"; }

kinds=(bf16 q4_k_m q8_0)
declare -A maker=()
if [ -n "$models" ]; then
  mkdir -p "$models"
  for kind in "${kinds[@]}"; do
    [ -e "$models/$kind.gguf" ] || [ -z "$generator" ] && continue
    ($generator --type "$kind" "$models/$kind.part" >"$out/made.$kind.txt" 2>&1 && mv "$models/$kind.part" "$models/$kind.gguf") &
    maker[$kind]=$!
  done
fi
# Waits until the model file of a kind is generated and prints its path; fails if there is none.
model() {
  [ -z "${maker[$1]-}" ] || while kill -0 "${maker[$1]}" 2>/dev/null; do sleep 0.2; done
  [ -n "$models" ] && [ -e "$models/$1.gguf" ] && echo "$models/$1.gguf"
}

# The program's behaviour if the GPU cannot be used.
errors() {
  local bad=0 file=${small:-$(model q4_k_m)} large share=0.05
  large=$(model q8_0) || { large=$file; share=0.01; }
  expect 'a share that is too small' 4 'weights .*KV cache .*workspace .*may be used.*what fits' \
    "$chatnap" -m "$large" -p hi --max-tokens 4 --gpu-memory-utilization $share || bad=1
  expect 'a GPU that does not exist' 1 'there is no GPU 7' "$chatnap" -m "$file" -p hi --max-tokens 4 --device cuda:7 || bad=1
  expect 'hidden GPUs, any device' 0 'running on the CPU: CUDA shows no GPU' \
    env CUDA_VISIBLE_DEVICES= "$chatnap" -m "$file" -p hi --max-tokens 4 || bad=1
  expect 'hidden GPUs, this device' 1 'CUDA shows no GPU' \
    env CUDA_VISIBLE_DEVICES= "$chatnap" -m "$file" -p hi --max-tokens 4 --device cuda || bad=1
  expect 'chatnap gpu without GPUs' 1 'No GPU can be used' env CUDA_VISIBLE_DEVICES= "$chatnap" gpu || bad=1
  return $bad
}
perplexity() {
  local device value
  declare -A of=()
  for device in cpu cuda; do
    value=$("$chatnap" bench perplexity "$text" -m "$small" --device $device --format json) || return 1
    of[$device]=$(sed -n 's/.*"perplexity": *\([0-9.]*\).*/\1/p' <<<"$value" | head -1)
    figure "perplexity, $device" "${of[$device]}"
  done
  awk -v a="${of[cuda]}" -v b="${of[cpu]}" 'BEGIN { d = (a / b - 1) * 100; printf "figure\tperplexity, GPU against CPU %%\t%.3f\n", d; exit !(d < 1 && d > -1) }'
}
# Three fresh processes each, with the driver's kernel cache on and off.
cold() {
  local kind file off
  for kind in "${kinds[@]}"; do
    file=$(model "$kind") || continue
    for off in 0 1; do
      for _ in 1 2 3; do CUDA_CACHE_DISABLE=$off "$gpu" cold "$file"; done >"$out/cold.txt" || { cat "$out/cold.txt"; return 1; }
      sed -n 's/^figure\t.*cold to first token s\t//p' "$out/cold.txt" | tr '\n' ' '
      echo
      figure "$kind cold, median of 3$([ $off -eq 1 ] && echo ', CUDA_CACHE_DISABLE=1') s" \
        "$(sed -n 's/^figure\t.*cold to first token s\t//p' "$out/cold.txt" | median)"
      figure "driver start s" "$(sed -n "s/^figure\tdriver start s\t//p" "$out/cold.txt" | median)"
    done
    # The whole one-shot process, with one token.
    "$chatnap" -m "$file" -p hi --max-tokens 1 --format json --offline >"$out/one.json" || return 1
    figure "$kind one-shot load ms" "$(sed -n 's/.*"load_ms": *\([0-9.]*\).*/\1/p' "$out/one.json" | head -1)"
    figure "$kind one-shot TTFT ms" "$(sed -n 's/.*"ttft_ms": *\([0-9.]*\).*/\1/p' "$out/one.json" | head -1)"
  done
}
small_model() {
  local device
  for device in cpu cuda; do
    echo "on $device: $("$chatnap" -m "$small" -p 'What is the capital of France?' --max-tokens 24 --temperature 0 --device $device)" || return 1
  done
  # Both round differently: the CPU activations to int8, the GPU weights of a prompt to bf16. With 20
  # seeds that is 0.7 to 2.6 % of the logits of a model this small, and once 6.4 %; a wrong weight or position gives about 100 %.
  "$gpu" compare 0.1 100 "$small" && "$gpu" compare 0.1 2000 "$small"
}
tui_turns() {
  local file
  file=$(model bf16) || file=$small
  python3 "$root/benches/gpu_tui.py" "$chatnap" "$file"
}
# over KIND... -- COMMAND...: runs the command for each of these kinds, with FILE replaced by the model's path.
over() {
  local of=() kind file
  while [ "$1" != -- ]; do of+=("$1"); shift; done
  shift
  for kind in "${of[@]}"; do
    file=$(model "$kind") || continue
    "${@/#FILE/$file}" || return 1
  done
}
speeds() { over "${kinds[@]}" -- "$gpu" speed FILE; }
shorts() { over "${kinds[@]}" -- "$gpu" short FILE; }
chunks() { over bf16 q4_k_m -- "$gpu" chunks FILE; }
benches() { over bf16 q4_k_m -- "$chatnap" bench -m FILE --device cuda --format markdown; }
cancelled() {
  local file
  file=$(model bf16) || file=$small
  "$gpu" cancel "$file"
}
export -f over shorts chunks cancelled errors expect perplexity cold small_model tui_turns speeds benches model median figure
export gpu chatnap small text out models root
# Steps that are functions run in a subshell process, because `timeout` runs commands only.
run() { local name=$1 limit=$2; shift 2; step "$name" "$limit" bash -c "$(declare -p kinds maker); $*"; }

wanted info && step info 20 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv
wanted bandwidth && step bandwidth 30 "$gpu" bandwidth
wanted kernels && step kernels 60 "$gpu" kernels
wanted sampler && step sampler 60 "$gpu" sampler
wanted formats && step formats 90 "$gpu" formats
# As on GPUs with 99 KiB of shared memory a block and without Hopper's kernels: the code that runs on RTX 30, 40 and 50.
wanted smaller && CHATNAP_CUDA_TUNING=shared=101376,hopper=0,overlap=0 step smaller 120 bash -c '"$gpu" kernels && "$gpu" formats'
wanted fault && step fault 30 "$gpu" fault
wanted small && [ -n "$small" ] && run small 60 small_model
wanted perplexity && [ -n "$small" ] && run perplexity 90 perplexity
# The timings that follow need an idle machine: wait for the generators.
for kind in "${!maker[@]}"; do wait "${maker[$kind]}" || { echo "FAIL making $kind"; tail -3 "$out/made.$kind.txt"; failed=1; }; done
maker=()
wanted speed && [ -n "$models" ] && run speed 120 speeds
wanted cold && [ -n "$models" ] && run cold 100 cold
wanted cancel && run cancel 40 cancelled
wanted chunks && [ -n "$models" ] && run chunks 60 chunks
wanted short && [ -n "$models" ] && run short 90 shorts
wanted bench && [ -n "$models" ] && run bench 100 benches
wanted errors && run errors 60 errors
wanted tui && run tui 60 tui_turns
wanted replay && [ -n "$small" ] && step replay 300 python3 "$root/benches/replay.py" "$chatnap" "$small" --answers 60 --device cuda
wanted gpus && step gpus 30 "$chatnap" gpu
wanted depths && step depths 90 "$gpu" depths
wanted cycles && [ -n "$small" ] && step cycles 90 "$gpu" cycles 50 "$small"
if wanted sanitizer && command -v compute-sanitizer >/dev/null; then
  SEED=7 step sanitizer 100 compute-sanitizer --error-exitcode 9 "$gpu" kernels
  SEED=7 step sanitizer-models 100 compute-sanitizer --error-exitcode 9 "$gpu" formats
  SEED=7 step synccheck 60 compute-sanitizer --tool synccheck --error-exitcode 9 "$gpu" kernels
fi

# ---- the table ----
row() {
  local found
  found=$(value "$2")
  [ -n "$found" ] || return 0
  echo "| $1 | $4 | $5 | ${6:+$6 }${6:+$3} | $found $3 | $(verdict "$found" "$6" "$7") |"
}
table() {
  echo "| | limit | llama.cpp | to reach | chatnap | |"
  echo "| --- | --- | --- | --- | --- | --- |"
  row 'read bandwidth' 'read bandwidth TB/s' 'TB/s' '' '' '' ''
  row 'decode bf16, short' 'BF16 decode @0 tok/s' tok/s 206 165 185 least
  row 'decode bf16, depth 4096' 'BF16 decode @4096 tok/s' tok/s '' 158 '' ''
  row 'decode bf16, depth 16384' 'BF16 decode @16384 tok/s' tok/s 180 140 160 least
  row 'decode Q4_K_M, short' 'Q4_K_M decode @0 tok/s' tok/s 669 267 340 least
  row 'decode Q4_K_M, depth 4096' 'Q4_K_M decode @4096 tok/s' tok/s '' 242 '' ''
  row 'decode Q4_K_M, depth 16384' 'Q4_K_M decode @16384 tok/s' tok/s 455 205 270 least
  row 'decode Q8_0, short' 'Q8_0 decode @0 tok/s' tok/s 386 '' 320 least
  row 'decode Q8_0, depth 4096' 'Q8_0 decode @4096 tok/s' tok/s '' '' '' ''
  row 'decode Q8_0, depth 16384' 'Q8_0 decode @16384 tok/s' tok/s '' '' '' ''
  row 'TTFT, warm, 50-token prompt, bf16' 'BF16 prompt 50 to first token ms' ms 4.9 11 9 most
  row 'TTFT, warm, 50-token prompt, Q4_K_M' 'Q4_K_M prompt 50 to first token ms' ms '' '' '' ''
  row 'prefill 512, bf16' 'BF16 prompt 512 to first token ms' ms '' 22 '' ''
  row 'prefill 2048, bf16' 'BF16 prompt 2048 to first token ms' ms 41 79 80 most
  row 'prefill 512, Q4_K_M' 'Q4_K_M prompt 512 to first token ms' ms '' 55 '' ''
  row 'prefill 2048, Q4_K_M' 'Q4_K_M prompt 2048 to first token ms' ms '' '' '' ''
  row 'prompt of 32768, bf16, warm' 'BF16 prompt of 32768, warm s' s '' '' '' ''
  row 'the same, freshly loaded' 'BF16 prompt of 32768, freshly loaded s' s '' '' '' ''
  row 'prompt of 32768, Q4_K_M, warm' 'Q4_K_M prompt of 32768, warm s' s '' '' '' ''
  row 'the same, freshly loaded' 'Q4_K_M prompt of 32768, freshly loaded s' s '' '' '' ''
  row 'cold to first token, bf16' 'bf16 cold, median of 3 s' s 0.30 3.2 1.0 most
  row 'the same, CUDA_CACHE_DISABLE=1' 'bf16 cold, median of 3, CUDA_CACHE_DISABLE=1 s' s '' '' 1.3 most
  row 'cold to first token, Q4_K_M' 'q4_k_m cold, median of 3 s' s 0.09 1.8 0.6 most
  row 'the same, CUDA_CACHE_DISABLE=1' 'q4_k_m cold, median of 3, CUDA_CACHE_DISABLE=1 s' s '' '' 0.9 most
  row 'cold to first token, Q8_0' 'q8_0 cold, median of 3 s' s '' '' '' ''
  row 'release, bf16' 'BF16 release s' s '' '' '' ''
  row 'GPU memory before the load' 'BF16 GPU memory before MiB' MiB '' '' '' ''
  row 'GPU memory, loaded' 'BF16 GPU memory loaded MiB' MiB '' '' '' ''
  row 'GPU memory after the release' 'BF16 GPU memory after MiB' MiB '' '' '' ''
  row 'driver start, before the cold times' 'driver start s' s '' '' '' ''
  row 'cancel of a load, delay' 'cancel of a load, worst ms' ms '' '' 200 most
  row 'slowest chunk of 32768 tokens, bf16' 'BF16 prompt of 32768, slowest chunk ms' ms '' '' 100 most
  row 'slowest chunk of 32768 tokens, Q4_K_M' 'Q4_K_M prompt of 32768, slowest chunk ms' ms '' '' 100 most
  row 'perplexity, GPU against CPU' 'perplexity, GPU against CPU %' '%' '' '' '' ''
  row 'cycles: memory after the first' 'cycles: GPU memory after the first MiB' MiB '' '' '' ''
  row 'cycles: highest memory after any' 'cycles: highest GPU memory after any MiB' MiB '' '' '' ''
}
table | tee "$out/table.md"
echo; cat "$results"
[ ! -e "$out/said.bench.txt" ] || cat "$out/said.bench.txt"
grep '^tui' "$figures"
echo "log, figures and table: $out; ${SECONDS} s in total"
exit $failed
