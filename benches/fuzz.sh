#!/usr/bin/env bash
# Fuzzes a reader of foreign input for as long as one likes, guided by coverage:
#
#   benches/fuzz.sh TARGET SECONDS [OPTION...]   OPTIONs are libFuzzer's (-help=1 lists them)
#   benches/fuzz.sh TARGET FILE...               runs these inputs alone, a finding for example
#   benches/fuzz.sh all SECONDS                  every target, one after the other, so long each
#
# The targets (gguf, safetensors, config, tokenizer, template, sanitizer, hub, store) are those of tests/fuzz, which
# `cargo test --test fuzz` runs with a fixed number of inputs. The corpus grows under $CARGO_TARGET_DIR/fuzz/TARGET from
# run to run. A finding ends the run; its input lies in `findings` there. Once it is mended, the input goes to
# tests/fixtures/fuzz/TARGET, which the test replays first.
#
# Stable Rust and a C++ compiler are enough. The library is compiled once more, with a counter on each edge of its control
# flow; what it depends on is compiled as always, so that it need not be built again.
set -euo pipefail

# Cargo calls this file in the place of rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER below).
if [[ ${CHATNAP_FUZZ_RUSTC-} == wrap && ${1-} == *rustc* ]]; then
  counters=()
  if [[ " $* " == *" --crate-name chatnap "* && " $* " == *" --crate-type lib "* ]]; then
    counters=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
      -Cllvm-args=-sanitizer-coverage-trace-compares)
  fi
  exec "$@" "${counters[@]}"
fi

usage() { sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[[ $# -ge 2 ]] || usage
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
target=$1
shift
output=${CARGO_TARGET_DIR:-$root/target}
CHATNAP_FUZZ_RUSTC=wrap RUSTC_WORKSPACE_WRAPPER=$root/benches/fuzz.sh \
  cargo build --locked --quiet --features fuzz --example fuzz
program=$output/debug/examples/fuzz

# Files that an input consists of go to memory, and away when this ends.
temporary=$(TMPDIR=$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}") mktemp -d)
trap 'rm -rf "$temporary"' EXIT
export TMPDIR=$temporary

# fuzz TARGET ARGUMENT...: one run; keeps the input that ended the process where libFuzzer could not.
fuzz() {
  local folder=$output/fuzz/$1 code=0 marker=$temporary/began
  mkdir -p "$folder"
  touch "$marker"
  # The stack of the threads that read files in the program: 2 MiB.
  (ulimit -s 2048 && "$program" "$1" "$folder" "${@:2}") || code=$?
  if [ $code -ne 0 ] && [ -z "$(find "$folder/findings" -newer "$marker" -type f)" ] && [ -e "$temporary/current" ]; then
    cp "$temporary/current" "$folder/findings/ended-$(sha1sum <"$temporary/current" | cut -c1-40)"
  fi
  [ $code -eq 0 ] || { echo "$1: a finding"; find "$folder/findings" -newer "$marker" -type f; }
  return $code
}

if [[ $1 == *[!0-9]* ]]; then
  fuzz "$target" "$@"
  exit
fi
seconds=$1
shift
names=$target
[ "$target" != all ] || names="gguf safetensors config tokenizer template sanitizer hub store"
failed=0
for name in $names; do
  # The guard of the target counts time and memory; libFuzzer's own limits are there for what it does not come back from.
  fuzz "$name" -max_total_time="$seconds" -timeout=90 -rss_limit_mb=4096 -print_final_stats=1 "$@" || failed=1
done
exit $failed
