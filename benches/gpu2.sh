#!/usr/bin/env bash
# Checks and times models that are split among two GPUs. Builds nothing and downloads nothing:
#
#   benches/gpu2.sh [OPTION...] PROGRAMS
#
# PROGRAMS is a folder with `chatnap` and `gpu`, as for gpu.sh. On a machine with one GPU that one stands for both: the
# checks are the same but for the links between GPUs, and the times mean nothing.
#
#   --gpus COUNT        GPUs to split models among (default 2)
#   --models DIR        70b-bf16.gguf, 70b-q8_0.gguf, 70b-q4_k_m.gguf, 8b-bf16.gguf; random weights do; in /dev/shm, so that
#                       the disk is not what is measured. What is missing is left out.
#   --generator "CMD"   generates each missing model, and removes a 70B one after its steps: at most 160 GB are in use.
#                       CMD --preset PRESET --type TYPE FILE
#   --only A,B          run only these steps: see STEPS
#   --out DIR           log and figures (default: a new folder under /tmp)
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
STEPS=info,exchange,split,host,lost,depths,cold,speed,alone,prompts,cancel,cycles,faults,tui,bench,file,gpus
gpus=2 models='' generator='' only=$STEPS out=''
named=1
. "$root/benches/gpu_steps.sh"
present=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
device=cuda:$(seq -s, 0 $((gpus - 1)))
if [ "$present" -lt "$gpus" ]; then
  device=cuda:0
  emulated=1
  export CHATNAP_CUDA_TUNING=ranks=$gpus
fi

# Runs a step if it is wanted; `speed-70b-bf16` is a part of `speed`.
part() { ! wanted "${1%%-*}" || step "$@"; }
# make SIZE TYPE: starts the generator if the file is missing.
declare -A maker=()
make() {
  local file=$models/$1-$2.gguf
  [ -n "$models" ] && [ -n "$generator" ] && [ ! -e "$file" ] || return 0
  mkdir -p "$models"
  ($generator --preset "llama-3.1-$1" --type "$2" "$file.part" >"$out/made.$1-$2.txt" 2>&1 && mv "$file.part" "$file") &
  maker[$1-$2]=$!
}
# model SIZE TYPE: waits for the file and sets `file`; fails if there is none.
model() {
  file=$models/$1-$2.gguf
  [ -z "${maker[$1-$2]-}" ] || while kill -0 "${maker[$1-$2]}" 2>/dev/null; do sleep 0.2; done
  [ -z "${maker[$1-$2]-}" ] || [ -e "$file" ] || { echo "FAIL making $file"; tail -3 "$out/made.$1-$2.txt"; failed=1; }
  [ -n "$models" ] && [ -e "$file" ]
}
# made SIZE TYPE: removes what this script made, so that the next file has room.
made() { [ -z "${maker[$1-$2]-}" ] || rm -f "$models/$1-$2.gguf"; }
# Three cold starts; the file's pages were read before, as the first read of new pages is slower.
cold() {
  cat "$1" >/dev/null
  for _ in 1 2 3; do "$gpu" --gpus "$gpus" cold "$1" || return 1; done >"$out/cold.txt"
  cat "$out/cold.txt"
  printf 'figure\tcold, median of 3 s\t%s\n' "$(sed -n 's/^figure\t.*cold to first token s\t//p' "$out/cold.txt" | sort -g | sed -n 2p)"
}
export -f cold
large() {
  model 70b "$1" || return 0
  part cold-70b-$1 120 bash -c 'cold "$0"' "$file"
  part speed-70b-$1 120 "$gpu" --gpus "$gpus" speed "$file" 0,8192 50,512,2048
  CHATNAP_CUDA_TUNING="${CHATNAP_CUDA_TUNING:+$CHATNAP_CUDA_TUNING,}alone=1" part alone-70b-$1 60 "$gpu" --gpus "$gpus" speed "$file" 0 50
  part prompts-70b-$1 60 "$gpu" --gpus "$gpus" chunks "$file" 16384
  made 70b "$1"
}
# A GPU that another program fills, and one that is taken away between two loads.
faults() {
  local file=$1 bad=0 holder
  expect 'two GPUs' 0 '.' "$chatnap" -m "$file" -p hi --max-tokens 4 --device "$device" --offline || bad=1
  if [ -z "${emulated-}" ]; then
    expect 'the second GPU is taken away' 1 'there is no GPU 1' \
      env CUDA_VISIBLE_DEVICES=0 "$chatnap" -m "$file" -p hi --max-tokens 4 --device "$device" --offline || bad=1
    python3 - <<'P' &
import time, torch
free, _ = torch.cuda.mem_get_info(1)
held = torch.empty(free - (1 << 30), dtype=torch.uint8, device="cuda:1")
time.sleep(40)
P
    holder=$!
    sleep 12
    expect 'the second GPU is full' 4 'cuda:1' "$chatnap" -m "$file" -p hi --max-tokens 4 --device "$device" --offline || bad=1
    kill $holder; wait $holder 2>/dev/null
  fi
  expect 'two GPUs again' 0 '.' "$chatnap" -m "$file" -p hi --max-tokens 4 --device "$device" --offline || bad=1
  return $bad
}
export -f expect faults
export gpu chatnap device emulated root gpus out

make 70b bf16
make 8b bf16
part info 20 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv
nvidia-smi topo -m >>"$log" 2>&1
part split 120 "$gpu" split "$gpus"
part host 120 env CHATNAP_CUDA_TUNING="${CHATNAP_CUDA_TUNING:+$CHATNAP_CUDA_TUNING,}through_host=1" "$gpu" split "$gpus"
part lost 60 env CHATNAP_CUDA_TUNING="${CHATNAP_CUDA_TUNING:+$CHATNAP_CUDA_TUNING,}patience=500" "$gpu" lost "$gpus"
part depths 100 "$gpu" split-depths "$gpus" 100,8000,30000
large bf16
make 70b q8_0
make 70b q4_k_m
if model 8b bf16; then
  part cancel 60 "$gpu" --gpus "$gpus" cancel "$file"
  part cycles 120 "$gpu" split-cycles "$gpus" 50 "$file"
  part faults 120 bash -c 'faults "$0"' "$file"
  part tui 90 python3 "$root/benches/gpu_tui.py" "$chatnap" "$file" --device "$device"
  # The following are timings: nothing else may run.
  wait
  part exchange 30 "$gpu" --gpus "$gpus" exchange
  part speed-8b-bf16 120 "$gpu" --gpus "$gpus" speed "$file" 0,8192 50,512,2048
  part speed-8b-one 120 "$gpu" speed "$file" 0,8192 50,512,2048
  part bench 120 "$chatnap" bench -m "$file" --device "$device" --format markdown
fi
model 70b q4_k_m && part file 90 "$gpu" split-file "$gpus" 300 "$file"
large q4_k_m
large q8_0
model 8b bf16 || part exchange 30 "$gpu" --gpus "$gpus" exchange
part gpus 60 "$chatnap" gpu

# ---- the table ----
# row NAME FIGURE UNIT LIMIT TARGET least|most
row() {
  local found
  found=$(value "$2")
  [ -n "$found" ] || return 0
  echo "| $1 | $4 | ${5:+$5 }${5:+$3} | $found $3 | $(verdict "$found" "$5" "$6") |"
}
{
  echo "| | limit, 2 × H100 | to reach | chatnap | |"
  echo "| --- | --- | --- | --- | --- |"
  row '70B decode bf16, short' 'speed-70b-bf16: BF16 decode @0 tok/s' tok/s 44.4 38 least
  row 'the same without the exchange' 'alone-70b-bf16: BF16 decode @0 tok/s' tok/s '' '' ''
  row '70B decode bf16, depth 8192' 'speed-70b-bf16: BF16 decode @8192 tok/s' tok/s '' 36 least
  row '70B decode Q8_0' 'speed-70b-q8_0: Q8_0 decode @0 tok/s' tok/s 83.7 64 least
  row '70B decode Q4_K_M' 'speed-70b-q4_k_m: Q4_K_M decode @0 tok/s' tok/s 147.6 95 least
  row 'the same without the exchange' 'alone-70b-q4_k_m: Q4_K_M decode @0 tok/s' tok/s '' '' ''
  row '8B decode bf16' 'speed-8b-bf16: BF16 decode @0 tok/s' tok/s 412 300 least
  row '8B decode bf16, one GPU' 'speed-8b-one: BF16 decode @0 tok/s' tok/s 206 '' ''
  row 'exchange, a kernel' 'exchange: exchange, a kernel µs' µs '' 2.5 most
  row 'exchange without the kernel' 'exchange: exchange alone µs' µs '' '' ''
  row '70B cold to first token, bf16' 'cold-70b-bf16: cold, median of 3 s' s 1.32 3 most
  row '70B cold to first token, Q4_K_M' 'cold-70b-q4_k_m: cold, median of 3 s' s '' '' ''
  row '70B prefill 2048, bf16' 'speed-70b-bf16: BF16 prompt 2048 to first token ms' ms '' 500 most
  row '70B prefill 2048, Q4_K_M' 'speed-70b-q4_k_m: Q4_K_M prompt 2048 to first token ms' ms '' '' ''
  row '70B slowest chunk of 16384 tokens, bf16' 'prompts-70b-bf16: BF16 prompt of 16384, slowest chunk ms' ms '' 100 most
  row '70B release' 'speed-70b-bf16: BF16 release s' s '' 0.5 most
  row 'GPU 0 before, after' 'speed-70b-bf16: BF16 GPU memory before MiB' MiB '' '' ''
  row '' 'speed-70b-bf16: BF16 GPU memory after MiB' MiB '' '' ''
  row 'GPU 1 before, after' 'speed-70b-bf16: BF16 GPU memory before MiB, GPU 1' MiB '' '' ''
  row '' 'speed-70b-bf16: BF16 GPU memory after MiB, GPU 1' MiB '' '' ''
  row 'memory kept after 50 cycles' 'cycles: cycles on several GPUs: most memory kept MiB' MiB '' 16 most
} | tee "$out/table.md"
echo; cat "$results"
echo "log, figures and table: $out; ${SECONDS} s in total"
exit $failed
