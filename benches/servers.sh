#!/usr/bin/env bash
# Runs chatnap against real servers with the starter model, and compares it with chatnap's own engine.
#
#   benches/servers.sh [CHATNAP] [--vllm FOLDER] [--wake SECONDS] [--record FOLDER]
#
# CHATNAP: the program, default target/release/chatnap. llama-server is built from the Python package llama-cpp-python
# (needs pip, CMake and a C++ compiler; about 15 minutes on 2 cores), unless LLAMA_SERVER names one. --vllm also plays
# against `vllm serve FOLDER` of VLLM (default: vllm on the PATH); FOLDER has config.json, safetensors and a tokenizer.
# --wake starts the server only SECONDS after the prompt. --record writes what the servers sent.
# Prints `figure<TAB>name<TAB>value` and `ok`/`FAIL` lines; exit status 1 after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.3.36
cache="${XDG_CACHE_HOME:-$HOME/.cache}/chatnap-servers"

build() {
    mkdir -p "$cache"
    if [ ! -d "$cache/source" ]; then
        python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$cache" "llama-cpp-python==$version" >&2
        mkdir -p "$cache/unpacked"
        tar -xzf "$cache/llama_cpp_python-$version.tar.gz" -C "$cache/unpacked" --strip-components 1
        mv "$cache/unpacked" "$cache/source"
    fi
    cmake -S "$cache/source/vendor/llama.cpp" -B "$cache/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
        -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON \
        -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >&2
    cmake --build "$cache/build" --target llama-server -j "$(nproc)" >&2
}

server="${LLAMA_SERVER:-$cache/build/bin/llama-server}"
if [ ! -x "$server" ]; then
    build
fi
if [ "${1:-}" = "" ] || [ "${1#--}" != "$1" ]; then
    set -- target/release/chatnap "$@"
fi
exec python3 benches/servers.py --llama-server "$server" --chatnap "$@"
