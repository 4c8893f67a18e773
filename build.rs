//! Provides the CUDA kernels that the program embeds (feature `cuda` on Linux), and a hash of the engine's sources.
//!
//! `src/engine/cuda/kernels/prebuilt` has them ready-made, with a manifest of the SHA-256 of every source and blob. If all
//! agree, the blobs are embedded and no toolkit is needed. If not, or if `CHATNAP_BUILD_KERNELS` is set, `nvcc` compiles
//! them: from `CUDA_HOME`, `CUDA_PATH`, `/usr/local/cuda` or `PATH`, in this order. `CUDA_COMPUTE_CAP` (`90`, or `80,90`)
//! then replaces the list of targets. Without `nvcc` the build fails: old kernels are never embedded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use sha2::{Digest, Sha256};

const DIRECTORY: &str = "src/engine/cuda/kernels";
const MANIFEST: &str = "MANIFEST.toml";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Err(message) = hash_engine() {
        eprintln!("{message}");
        std::process::exit(1);
    }
    println!("cargo:rustc-check-cfg=cfg(cuda)");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    let supported = target("OS") == "linux" && ["x86_64", "aarch64"].contains(&target("ARCH").as_str());
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() || !supported {
        return;
    }
    println!("cargo:rustc-cfg=cuda");
    println!("cargo:rerun-if-changed={DIRECTORY}");
    for name in ["CHATNAP_BUILD_KERNELS", "CUDA_COMPUTE_CAP", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Err(message) = provide() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

/// Files and folders that decide about the tokens of an answer.
const ENGINE: [&str; 4] = ["src/engine", "src/engine.rs", "src/protocol/sampling.rs", "Cargo.lock"];

/// Hashes the engine's sources: an answer can be repeated exactly by a build with the same hash.
fn hash_engine() -> Result<(), String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run this through cargo")?);
    let mut hasher = Sha256::new();
    for name in ENGINE {
        println!("cargo:rerun-if-changed={name}");
        hash_tree(&root.join(name), &mut hasher)?;
    }
    let hash = hasher.finalize().iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    println!("cargo:rustc-env=CHATNAP_ENGINE_HASH={hash}");
    Ok(())
}

/// Adds a file, or the files of a folder in the order of their names. A package from a registry may lack `Cargo.lock`.
fn hash_tree(path: &Path, hasher: &mut Sha256) -> Result<(), String> {
    if !path.is_dir() {
        if path.is_file() {
            hasher.update(read(path)?);
        }
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.iter().try_for_each(|path| hash_tree(path, hasher))
}

/// The images of one target: `sm_90`, or `compute_90` for PTX.
struct Set {
    target: String,
    /// A file that `include_bytes!` finds.
    file: PathBuf,
}

fn provide() -> Result<(), String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("run this through cargo")?);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("run this through cargo")?);
    let directory = root.join(DIRECTORY);
    let forced = std::env::var_os("CHATNAP_BUILD_KERNELS").is_some_and(|value| !value.is_empty() && value != "0");
    let stale = if forced { Some("CHATNAP_BUILD_KERNELS is set".to_owned()) } else { stale(&directory)? };
    let (sets, origin) = match stale {
        None => ready_made(&directory)?,
        Some(why) => compile(&directory, &out, &why)?,
    };
    let mut code = format!("pub const ORIGIN: &str = {origin:?};\npub static SETS: &[Set] = &[\n");
    for Set { target, file } in &sets {
        let _ = writeln!(code, "    Set {{ target: {target:?}, blob: include_bytes!({file:?}) }},");
    }
    code.push_str("];\n");
    fs::write(out.join("kernels.rs"), code).map_err(|e| format!("writing kernels.rs: {e}"))
}

/// The settings in `targets.txt`, by key.
fn settings(directory: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let text = read(&directory.join("targets.txt"))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let settings = lines.filter_map(|line| line.split_once(' '));
    Ok(settings.map(|(key, rest)| (key.to_owned(), rest.split(' ').map(str::to_owned).collect())).collect())
}

/// Why the ready-made kernels cannot be embedded; `None` if every source and every blob has the hash in the manifest.
fn stale(directory: &Path) -> Result<Option<String>, String> {
    let prebuilt = directory.join("prebuilt");
    let manifest = match fs::read_to_string(prebuilt.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(format!("there is no {MANIFEST}"))),
        Err(error) => return Err(format!("reading {MANIFEST}: {error}")),
    };
    let section = |name: &str| -> BTreeMap<String, String> {
        let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
        let pairs = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
        pairs.map(|(key, value)| (key.trim_matches('"').to_owned(), value.trim_matches('"').to_owned())).collect()
    };
    for (folder, listed, kinds) in
        [(directory, section("sources"), &["cu", "cuh", "txt"][..]), (&prebuilt, section("blobs"), &["xz"][..])]
    {
        let found = hashes(folder, kinds)?;
        let names = listed.keys().chain(found.keys());
        if let Some(name) = names.into_iter().find(|name| listed.get(*name) != found.get(*name)) {
            return Ok(Some(format!("{name} is not the file that {MANIFEST} names")));
        }
    }
    Ok(None)
}

/// SHA-256 of the files of these kinds in a folder, by name.
fn hashes(folder: &Path, kinds: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("reading {}: {e}", folder.display()))?;
    let mut found = BTreeMap::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| kinds.contains(&kind)) else {
            continue;
        };
        let hash = Sha256::digest(read(&path)?).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        found.insert(name.to_owned(), hash);
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))
}

fn ready_made(directory: &Path) -> Result<(Vec<Set>, String), String> {
    let settings = settings(directory)?;
    let targets = ["targets", "ptx"].into_iter().filter_map(|key| settings.get(key)).flatten();
    let file = |target: &str| directory.join("prebuilt").join(format!("{target}.xz"));
    let sets = targets.map(|target| Set { target: target.clone(), file: file(target) }).collect();
    let manifest = read(&directory.join("prebuilt").join(MANIFEST))?;
    let manifest = String::from_utf8_lossy(&manifest);
    let toolkit = manifest.lines().find_map(|line| line.strip_prefix("toolkit = ")).unwrap_or("").trim_matches('"');
    Ok((sets, format!("embedded ready-made (CUDA {toolkit})")))
}

/// Compiles all kernels with `nvcc`; `why` the ready-made ones cannot be embedded.
fn compile(directory: &Path, out: &Path, why: &str) -> Result<(Vec<Set>, String), String> {
    let settings = settings(directory)?;
    let list = |key: &str| settings.get(key).cloned().unwrap_or_default();
    let nvcc = find_nvcc();
    let version = Command::new(&nvcc).arg("--version").output().map_err(|error| {
        format!(
            "chatnap's CUDA kernels must be compiled, because {why}, and {} could not be started: {error}.\n\
             `.ci/kernels.py` makes the ready-made kernels anew with a compiler from the Python index; or install a CUDA \
             toolkit (12.8 or later) and put its bin folder on PATH or set CUDA_HOME; or build without CUDA: \
             --no-default-features.",
            nvcc.display()
        )
    })?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.split_once("release ").and_then(|(_, rest)| rest.split(',').next()).unwrap_or("unknown");
    let caps = std::env::var("CUDA_COMPUTE_CAP").ok().filter(|caps| !caps.trim().is_empty());
    let (targets, ptx) = match caps {
        Some(caps) => {
            let caps: Vec<String> = caps.split(',').map(|cap| cap.trim().replace('.', "")).collect();
            (caps.iter().map(|cap| format!("sm_{cap}")).collect(), caps.last().map(|cap| format!("compute_{cap}")))
        }
        None => (list("targets"), list("ptx").first().cloned()),
    };
    let mut sets = Vec::new();
    for target in targets.into_iter().chain(ptx) {
        let mut started = Vec::new();
        for name in list("portable") {
            started.push((name.clone(), start(&nvcc, &name, &target, &list("flags"), out)?));
        }
        for name in list("hopper").into_iter().filter(|_| target == "sm_90") {
            started.push((name.clone(), start(&nvcc, &name, "sm_90a", &list("flags"), out)?));
        }
        let mut images = Vec::new();
        for (name, (child, file)) in started {
            let output = child.wait_with_output().map_err(|e| format!("nvcc on {name}.cu: {e}"))?;
            if !output.status.success() {
                return Err(format!("nvcc failed on {name}.cu:\n{}", String::from_utf8_lossy(&output.stderr)));
            }
            let mut image = read(&file)?;
            // The driver reads PTX up to a NUL.
            image.extend(target.starts_with("compute").then_some(0));
            images.push((name, image));
        }
        let file = out.join(format!("{target}.blob"));
        fs::write(&file, blob(&images)).map_err(|e| format!("writing {}: {e}", file.display()))?;
        sets.push(Set { target, file });
    }
    Ok((sets, format!("compiled by nvcc {version}")))
}

/// The format of `.ci/kernels.py`, not compressed.
fn blob(images: &[(String, Vec<u8>)]) -> Vec<u8> {
    let head: usize = 4 + images.iter().map(|(name, _)| 1 + name.len() + 16).sum::<usize>();
    let (mut table, mut body) = ((images.len() as u32).to_le_bytes().to_vec(), Vec::new());
    for (name, image) in images {
        body.resize((head + body.len()).next_multiple_of(64) - head, 0);
        table.push(name.len() as u8);
        table.extend(name.bytes());
        table.extend(((head + body.len()) as u64).to_le_bytes());
        table.extend((image.len() as u64).to_le_bytes());
        body.extend(image);
    }
    table.extend(body);
    table
}

fn start(
    nvcc: &Path,
    name: &str,
    target: &str,
    flags: &[String],
    out: &Path,
) -> Result<(std::process::Child, PathBuf), String> {
    let file = out.join(format!("{name}.{target}"));
    let virtual_target = target.replace("sm_", "compute_");
    let mut command = Command::new(nvcc);
    command.arg(if target == virtual_target { "-ptx" } else { "-cubin" }).arg("-O3").args(flags);
    command.arg(format!("-gencode=arch={virtual_target},code={target}"));
    command.arg("-o").arg(&file).arg(format!("{DIRECTORY}/{name}.cu")).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("starting {}: {error}", nvcc.display()))?;
    Ok((child, file))
}

fn find_nvcc() -> PathBuf {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let found = homes.chain([PathBuf::from("/usr/local/cuda")]).map(|home| home.join("bin/nvcc")).find(|p| p.exists());
    found.unwrap_or_else(|| "nvcc".into())
}
