# Sourced by gpu.sh and gpu2.sh: their options, folders, and how a step runs. Before it, a script sets STEPS and the default
# of each option, `only` and `out` among them; the last argument is the folder with the programs.
while [[ ${1-} == --* ]]; do
  declare "${1#--}=$2"
  shift 2
done
programs=$(cd "${1:?usage: $0 [OPTION...] PROGRAMS}" && pwd)
gpu=$programs/gpu chatnap=$programs/chatnap
[ -x "$gpu" ] || gpu=$programs/examples/gpu
out=${out:-$(mktemp -d /tmp/chatnap-gpu.XXXXXX)}
mkdir -p "$out"
log=$out/log.txt figures=$out/figures.tsv results=$out/steps.txt
: >>"$log"; : >>"$figures"; : >>"$results"
# Keep the programs away from the settings and conversations of the user who runs the script.
export HOME=$out/home XDG_CONFIG_HOME=$out/home/config XDG_DATA_HOME=$out/home/data XDG_STATE_HOME=$out/home/state
mkdir -p "$HOME"
failed=0

# step NAME SECONDS COMMAND...: runs it with this timeout, logs its output, collects its figures, with the step's name before
# theirs if `named` is set.
step() {
  local name=$1 limit=$2 began=$SECONDS code said=$out/said.$1.txt
  shift 2
  echo "## $name"
  timeout -k 5 "$limit" "$@" >"$said" 2>&1
  code=$?
  { echo "## $name: $*"; cat "$said"; } >>"$log"
  grep -a '^figure' "$said" | cut -f2- | sed "s/^/${named:+$name: }/" >>"$figures"
  grep -aE '^FAIL|passed, .* failed|ERROR SUMMARY' "$said" | tail -25
  [ $code -eq 0 ] || { failed=1; tail -n 12 "$said"; }
  printf '%s\t%s\t%s s\n' "$name" "$([ $code -eq 0 ] && echo passed || echo "FAILED ($code)")" $((SECONDS - began)) | tee -a "$results"
}
wanted() { [[ ,$only, == *,$1,* ]]; }

# expect WHAT CODE PATTERN COMMAND...: its exit code, and a pattern of its message.
expect() {
  local what=$1 code=$2 words=$3 said
  shift 3
  said=$(timeout 60 "$@" 2>&1 </dev/null)
  local got=$?
  if [ $got -eq "$code" ] && grep -qE "$words" <<<"$said"; then echo "ok   $what: $(head -c 700 <<<"$said")"; return 0; fi
  echo "FAIL $what: exit code $got, expected $code and /$words/ in: $said"
  return 1
}

value() { awk -F'\t' -v name="$1" '$1 == name { v = $2 } END { print v }' "$figures"; }
# verdict VALUE TARGET least|most: whether a target is reached; nothing without one.
verdict() {
  [ -z "$2" ] || awk -v v="$1" -v t="$2" -v way="$3" 'BEGIN { print (way == "least" ? v >= t : v <= t) ? "reached" : sprintf("**%.0f %% short**", (way == "least" ? 1 - v / t : v / t - 1) * 100) }'
}
