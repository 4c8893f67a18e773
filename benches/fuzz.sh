#!/usr/bin/env bash
# Fuzzes the readers of untrusted input, guided by coverage:
#
#   benches/fuzz.sh TARGET SECONDS [OPTION...]   OPTIONs are libFuzzer's (-help=1 lists them)
#   benches/fuzz.sh TARGET FILE...               runs only these inputs, for example a finding
#   benches/fuzz.sh all SECONDS                  every target in turn, SECONDS each
#
# The targets (gguf, safetensors, config, tokenizer, template, sanitizer, hub, store) are those of tests/fuzz, which
# `cargo test --test fuzz` runs with a fixed number of inputs. The corpus grows under $CARGO_TARGET_DIR/fuzz/TARGET from
# run to run. A finding ends the run; its input is saved in `findings` there. After the fix, move the input to
# tests/fixtures/fuzz/TARGET, which the test replays first.
#
# Needs only stable Rust and a C++ compiler. The library is compiled again with a counter on each edge of its control
# flow; its dependencies are compiled as usual, so that existing builds are reused.
set -euo pipefail

# Cargo calls this file instead of rustc for the crates of this workspace (RUSTC_WORKSPACE_WRAPPER below).
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

# Temporary files go to /dev/shm if it is writable, and are removed on exit.
temporary=$(TMPDIR=$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}") mktemp -d)
trap 'rm -rf "$temporary"' EXIT
export TMPDIR=$temporary

# fuzz TARGET ARGUMENT...: one run; saves the input that ended the process if libFuzzer could not.
fuzz() {
  local folder=$output/fuzz/$1 code=0 marker=$temporary/began
  mkdir -p "$folder"
  touch "$marker"
  # 2 MiB: the stack size of the program's threads that read files.
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
  # The guard of the target limits time and memory; libFuzzer's own limits end inputs that do not return.
  fuzz "$name" -max_total_time="$seconds" -timeout=90 -rss_limit_mb=4096 -print_final_stats=1 "$@" || failed=1
done
exit $failed
