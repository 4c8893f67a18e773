//! Compiles the CUDA kernels to machine code (feature `cuda`); does nothing otherwise.
//!
//! Targets: sm_80, sm_86, sm_89, sm_90, and PTX of the last for later GPUs. `CUDA_COMPUTE_CAP` (`90`, or `80,90`)
//! replaces the list. `nvcc` is taken from `CUDA_HOME`, `CUDA_PATH`, `/usr/local/cuda` or `PATH`, in this order.

use std::path::{Path, PathBuf};
use std::process::Command;

const KERNELS: [&str; 6] = ["gemv", "attention", "prompt_ops", "skinny", "sample", "repack"];
/// Kernels for compute capability 9.0 only: wgmma and TMA code for sm_90a, which has no forward-compatible PTX.
const HOPPER_KERNELS: [&str; 3] = ["hopper_attention", "hopper_gemm", "hopper_skinny"];
const DIRECTORY: &str = "src/engine/cuda/kernels";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    for name in ["CUDA_COMPUTE_CAP", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed={DIRECTORY}");
    if let Err(message) = compile() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn compile() -> Result<(), String> {
    let nvcc = find_nvcc();
    let caps = std::env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80,86,89,90".to_owned());
    let caps: Vec<_> = caps.split(',').map(|cap| cap.trim().replace('.', "")).collect();
    println!("cargo:rustc-env=CHATNAP_CUDA_TARGETS={}", caps.join(","));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?);
    let mut targets: Vec<_> = caps.iter().map(|cap| format!("arch=compute_{cap},code=sm_{cap}")).collect();
    targets.extend(caps.last().map(|last| format!("arch=compute_{last},code=compute_{last}")));
    let mut started = Vec::new();
    for name in KERNELS {
        started.push((name, start(&nvcc, name, &targets, &out)?));
    }
    for name in HOPPER_KERNELS {
        if caps.iter().any(|cap| cap == "90") {
            started.push((name, start(&nvcc, name, &["arch=compute_90a,code=sm_90a".to_owned()], &out)?));
        } else {
            // An empty image marks a kernel that was not compiled: the program checks for it.
            std::fs::write(out.join(format!("{name}.fatbin")), "")
                .map_err(|e| format!("writing {name}.fatbin: {e}"))?;
        }
    }
    for (name, child) in started {
        let output = child.wait_with_output().map_err(|e| format!("nvcc on {name}.cu: {e}"))?;
        if !output.status.success() {
            return Err(format!("nvcc failed on {name}.cu:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

fn start(nvcc: &Path, name: &str, targets: &[String], out: &Path) -> Result<std::process::Child, String> {
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-O3", "-std=c++17"]);
    command.args(targets.iter().map(|target| format!("-gencode={target}")));
    command.arg("-o").arg(out.join(format!("{name}.fatbin"))).arg(format!("{DIRECTORY}/{name}.cu"));
    command.stderr(std::process::Stdio::piped());
    command.spawn().map_err(|error| {
        format!(
            "chatnap's feature `cuda` compiles CUDA kernels and {} could not be started: {error}.\n\
             Install a CUDA 13 toolkit and put its bin folder on PATH (or set CUDA_HOME), assemble one from PyPI wheels \
             with `eval \"$(.ci/cuda-toolkit.sh)\"`, or build without the feature.",
            nvcc.display()
        )
    })
}

fn find_nvcc() -> PathBuf {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let found = homes.chain([PathBuf::from("/usr/local/cuda")]).map(|home| home.join("bin/nvcc")).find(|p| p.exists());
    found.unwrap_or_else(|| "nvcc".into())
}
