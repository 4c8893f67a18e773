#!/usr/bin/env python3
"""Compile the CUDA kernels that the repository holds ready-made.

    .ci/kernels.py           writes src/engine/cuda/kernels/prebuilt: one blob for each target, and MANIFEST.toml
    .ci/kernels.py --check   compiles them again and compares every image with the stored one, byte for byte

The compiler is NVRTC 12.8 from the Python index: machine code of CUDA 12 runs with driver 525 or later, that of CUDA 13
with 580 or later. CHATNAP_NVRTC names the folder that the compiler is unpacked into (default: ~/.cache/chatnap-nvrtc-…).

A blob is an xz file of: u32 count; for each image u8 length, name, u64 offset, u64 bytes (little endian); the images at
multiples of 64 bytes.
"""

import concurrent.futures
import ctypes
import functools
import hashlib
import lzma
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src/engine/cuda/kernels"
PREBUILT = SOURCES / "prebuilt"
TOOLKIT = "12.8.93"
# Compiler and headers, with the hashes of the wheels for x86-64.
WHEELS = {
    "nvidia-cuda-nvrtc-cu12==12.8.93": "sha256:a7756528852ef889772a84c6cd89d41dfa74667e24cca16bb31f8f061e3e9994",
    "nvidia-cuda-runtime-cu12==12.8.90": "sha256:adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90",
}
# NVRTC has no C++ library; the kernels use these names of it.
STDINT = b"""
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;
typedef unsigned long long uint64_t; typedef unsigned long uintptr_t;
#define INFINITY __int_as_float(0x7f800000)
"""


def toolkit() -> pathlib.Path:
    """The folder with the unpacked wheels; downloads them once."""
    default = pathlib.Path.home() / f".cache/chatnap-nvrtc-{TOOLKIT}"
    folder = pathlib.Path(os.environ.get("CHATNAP_NVRTC", default))
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as wheels:
            wanted = pathlib.Path(wheels) / "wanted.txt"
            wanted.write_text("".join(f"{name} --hash={value}\n" for name, value in WHEELS.items()))
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-r", wanted, "-d", wheels],
                check=True,
                stdout=sys.stderr,
            )
            for wheel in pathlib.Path(wheels).glob("*.whl"):
                zipfile.ZipFile(wheel).extractall(folder)
        (folder / "ready").touch()
    return folder / "nvidia"


class Compiler:
    def __init__(self, folder: pathlib.Path, flags: list[str]):
        # NVRTC loads its library of built-in functions by name.
        ctypes.CDLL(str(folder / "cuda_nvrtc/lib/libnvrtc-builtins.so.12.8"))
        self.nvrtc = ctypes.CDLL(str(folder / "cuda_nvrtc/lib/libnvrtc.so.12"))
        self.nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        # Relative paths and one working folder, so that no path of this machine can reach the output.
        os.chdir(SOURCES)
        self.options = [*flags, "-I.", f"-I{folder / 'cuda_runtime/include'}"]

    def call(self, function: str, *arguments) -> None:
        status = getattr(self.nvrtc, function)(*arguments)
        if status:
            raise RuntimeError(f"{function}: {self.nvrtc.nvrtcGetErrorString(status).decode()}")

    def text(self, program, kind: str) -> bytes:
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{kind}", program, buffer)
        return buffer.raw

    def compile(self, name: str, architecture: str) -> bytes:
        """Machine code for `sm_…`, PTX (ending in NUL) for `compute_…`."""
        program = ctypes.c_void_p()
        headers, names = (ctypes.c_char_p * 1)(STDINT), (ctypes.c_char_p * 1)(b"stdint.h")
        source = (SOURCES / f"{name}.cu").read_bytes()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source, f"{name}.cu".encode(), 1, headers, names)
        options = [option.encode() for option in [*self.options, f"-arch={architecture}"]]
        status = self.nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if status:
            sys.exit(f"{name}.cu for {architecture}:\n{self.text(program, 'ProgramLog').rstrip(bytes(1)).decode()}")
        image = self.text(program, "PTX" if architecture.startswith("compute") else "CUBIN")
        self.call("nvrtcDestroyProgram", ctypes.byref(program))
        return image


@functools.cache
def compiler() -> Compiler:
    return Compiler(toolkit(), settings()["flags"])


def compile_one(job: tuple[str, str]) -> bytes:
    return compiler().compile(*job)


def settings() -> dict[str, list[str]]:
    lines = (SOURCES / "targets.txt").read_text().splitlines()
    return {key: rest.split() for key, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")}


def blob(images: list[tuple[str, bytes]]) -> bytes:
    head = 4 + sum(1 + len(name) + 16 for name, _ in images)
    table, body = struct.pack("<I", len(images)), b""
    for name, image in images:
        body += bytes(-(head + len(body)) % 64)
        table += struct.pack("<B", len(name)) + name.encode() + struct.pack("<QQ", head + len(body), len(image))
        body += image
    return table + body


def build() -> dict[str, bytes]:
    """By target: its images, not compressed."""
    wanted = settings()
    toolkit()
    sets = {target: [(name, target) for name in wanted["portable"]] for target in wanted["targets"] + wanted["ptx"]}
    sets["sm_90"] += [(name, "sm_90a") for name in wanted["hopper"]]
    jobs = [job for images in sets.values() for job in images]
    # In processes, because the compiler takes one job of a process at a time.
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        compiled = dict(zip(jobs, pool.map(compile_one, jobs)))
    return {target: blob([(name, compiled[name, arch]) for name, arch in images]) for target, images in sets.items()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    built = build()
    if sys.argv[1:] == ["--check"]:
        stored = {target: lzma.decompress((PREBUILT / f"{target}.xz").read_bytes()) for target in built}
        differing = [target for target in built if built[target] != stored[target]]
        if differing:
            sys.exit(f"the stored kernels differ from those of the sources: {', '.join(differing)}; run .ci/kernels.py")
        print(f"the stored kernels for {', '.join(built)} are those of the sources, byte for byte")
        return
    PREBUILT.mkdir(exist_ok=True)
    for old in PREBUILT.glob("*.xz"):
        old.unlink()
    lines = ["# Written by .ci/kernels.py, read by build.rs. SHA-256 of every source and of every file beside this one."]
    lines += [f'toolkit = "{TOOLKIT}"', f'flags = "{" ".join(settings()["flags"])}"', "", "[sources]"]
    sources = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh", ".txt"))
    lines += [f'"{path.name}" = "{sha256(path.read_bytes())}"' for path in sources]
    lines += ["", "[blobs]"]
    for target, images in built.items():
        packed = lzma.compress(images, preset=9 | lzma.PRESET_EXTREME)
        (PREBUILT / f"{target}.xz").write_bytes(packed)
        lines.append(f'"{target}.xz" = "{sha256(packed)}"')
        print(f"{target}: {len(images)} bytes, {len(packed)} compressed")
    lines += ["", "# Not compressed.", "[images]"]
    lines += [f'"{target}" = "{sha256(images)}"' for target, images in built.items()]
    (PREBUILT / "MANIFEST.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
