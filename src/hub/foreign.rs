//! Finds GGUF files in the folders of ollama and LM Studio, which are used in place and never written to.
//!
//! The content is not trusted: walks are bounded, only regular files are opened, and what cannot be read is left out.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::local::{part_name, split_name};
use super::regular_file;

/// Most entries of one folder that are looked at.
const MOST_ENTRIES: usize = 512;

/// Most models that are returned.
const MOST_MODELS: usize = 200;

/// Largest manifest of ollama that is read, in bytes. Real ones take about 1 kB.
const LONGEST_MANIFEST: u64 = 64 << 10;

/// Media type of the layer with the weights (ollama, `server/images.go`).
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// A GGUF file of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignModel {
    /// The other program.
    pub program: &'static str,
    /// Its name of the model, without control characters: `llama3.2:3b`, `publisher/repo/file.gguf`.
    pub name: String,
    /// The file, or the first part of a split one; a valid model name.
    pub path: PathBuf,
    /// Bytes of all parts.
    pub size: u64,
}

/// The folders in which other programs keep models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignFolders {
    /// Folders with `manifests` and `blobs`.
    pub ollama: Vec<PathBuf>,
    /// Folders with `PUBLISHER/REPO/*.gguf`.
    pub lm_studio: Vec<PathBuf>,
}

impl ForeignFolders {
    /// `OLLAMA_MODELS`, and the programs' standard folders.
    pub fn of_user() -> Self {
        let set = std::env::var_os("OLLAMA_MODELS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let home = std::env::home_dir();
        let at = |path: &str| home.as_ref().map(|home| home.join(path));
        let service = Some(PathBuf::from("/usr/share/ollama/.ollama/models"));
        Self {
            ollama: [set, at(".ollama/models"), service].into_iter().flatten().collect(),
            lm_studio: [at(".lmstudio/models"), at(".cache/lm-studio/models")].into_iter().flatten().collect(),
        }
    }

    /// The models in these folders, each file once. Reads the disk.
    pub fn models(&self) -> Vec<ForeignModel> {
        let mut found: Vec<ForeignModel> = Vec::new();
        let ollama = self.ollama.iter().flat_map(|root| ollama(root));
        let lm_studio = self.lm_studio.iter().flat_map(|root| lm_studio(root));
        for model in ollama.chain(lm_studio) {
            if found.len() < MOST_MODELS && found.iter().all(|other| other.path != model.path) {
                found.push(model);
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    digest: String,
}

/// The models of a folder of ollama: `manifests/HOST/NAMESPACE/NAME/TAG` name the files in `blobs`.
fn ollama(root: &Path) -> Vec<ForeignModel> {
    let mut found = Vec::new();
    for host in entries(&root.join("manifests")) {
        for namespace in entries(&host) {
            for name in entries(&namespace) {
                found.extend(entries(&name).into_iter().filter_map(|tag| ollama_model(root, &namespace, &name, &tag)));
                if found.len() >= MOST_MODELS {
                    return found;
                }
            }
        }
    }
    found
}

fn ollama_model(root: &Path, namespace: &Path, name: &Path, tag: &Path) -> Option<ForeignModel> {
    let manifest: Manifest = serde_json::from_slice(&regular_file::read(tag, LONGEST_MANIFEST).ok()?).ok()?;
    let layer = manifest.layers.iter().find(|layer| layer.media_type == MODEL_LAYER)?;
    let hash = layer.digest.strip_prefix("sha256:")?;
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let path = root.join("blobs").join(format!("sha256-{hash}"));
    let size = gguf_size(&path)?;
    let prefix = match part(namespace)? {
        "library" => String::new(),
        other => format!("{other}/"),
    };
    Some(ForeignModel { program: "ollama", name: format!("{prefix}{}:{}", part(name)?, part(tag)?), path, size })
}

/// The models of a folder of LM Studio: `PUBLISHER/REPO/FILE.gguf`.
fn lm_studio(root: &Path) -> Vec<ForeignModel> {
    let mut found = Vec::new();
    for publisher in entries(root) {
        for repo in entries(&publisher) {
            found.extend(entries(&repo).into_iter().filter_map(|file| lm_studio_model(&publisher, &repo, &file)));
            if found.len() >= MOST_MODELS {
                return found;
            }
        }
    }
    found
}

fn lm_studio_model(publisher: &Path, repo: &Path, file: &Path) -> Option<ForeignModel> {
    let name = part(file)?;
    let lower = name.to_ascii_lowercase();
    if !lower.ends_with(".gguf") || lower.contains("mmproj") || lower.contains("imatrix") {
        return None;
    }
    let size = match split_name(name) {
        None => gguf_size(file)?,
        Some((stem, count)) if name == part_name(stem, 1, count) => {
            let parts = (1..=count).map(|i| gguf_size(&file.with_file_name(part_name(stem, i, count))));
            parts.sum::<Option<u64>>()?
        }
        Some(_) => return None,
    };
    let name = format!("{}/{}/{name}", part(publisher)?, part(repo)?);
    Some(ForeignModel { program: "LM Studio", name, path: file.to_owned(), size })
}

/// Bytes of a regular file that begins as a GGUF file does.
fn gguf_size(path: &Path) -> Option<u64> {
    let mut file = regular_file::open_to_read(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    (&magic == b"GGUF").then(|| file.metadata().ok().map(|meta| meta.len())).flatten()
}

/// The last part of a path if it is UTF-8 without control characters, as model names must be.
fn part(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| !name.contains(char::is_control))
}

/// The entries of a folder, sorted.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = super::cache::entries(folder).take(MOST_ENTRIES).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, content: &[u8]) -> &Self {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
            self
        }

        fn names(&self) -> Vec<String> {
            let folders = ForeignFolders {
                ollama: vec![self.0.path().join("ollama")],
                lm_studio: vec![self.0.path().join("studio"), self.0.path().join("studio")],
            };
            folders
                .models()
                .into_iter()
                .map(|model| format!("{} {} {}", model.program, model.name, model.size))
                .collect()
        }
    }

    fn manifest(hash: &str) -> Vec<u8> {
        let layer = |kind: &str, digest: &str| serde_json::json!({"mediaType": kind, "digest": digest, "size": 1});
        let layers = [layer("application/vnd.ollama.image.license", "sha256:00"), layer(MODEL_LAYER, hash)];
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "layers": layers})).unwrap()
    }

    #[test]
    fn models_of_both_programs_are_found_once() {
        let root = Root::new();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        root.write(&format!("ollama/blobs/sha256-{a}"), b"GGUF of ollama");
        root.write(&format!("ollama/blobs/sha256-{b}"), b"GGUF");
        root.write("ollama/manifests/registry.ollama.ai/library/llama3.2/3b", &manifest(&format!("sha256:{a}")));
        root.write("ollama/manifests/registry.ollama.ai/library/llama3.2/latest", &manifest(&format!("sha256:{a}")));
        root.write("ollama/manifests/registry.ollama.ai/someone/own/1", &manifest(&format!("sha256:{b}")));
        root.write("studio/publisher/repo/Model-Q4_K_M.gguf", b"GGUF of LM Studio");
        root.write("studio/publisher/repo/mmproj-Model.gguf", b"GGUF");
        root.write("studio/publisher/repo/Big-00001-of-00002.gguf", b"GGUF1");
        root.write("studio/publisher/repo/Big-00002-of-00002.gguf", b"GGUF22");
        root.write("studio/publisher/repo/Lost-00001-of-00002.gguf", b"GGUF");
        let expected = [
            "ollama llama3.2:3b 14",
            "ollama someone/own:1 4",
            "LM Studio publisher/repo/Big-00001-of-00002.gguf 11",
            "LM Studio publisher/repo/Model-Q4_K_M.gguf 17",
        ];
        assert_eq!(root.names(), expected);
    }

    #[cfg(unix)]
    #[test]
    fn damaged_and_hostile_entries_are_left_out_without_blocking() {
        let root = Root::new();
        let hash = "c".repeat(64);
        let at = |name: &str| format!("ollama/manifests/registry.ollama.ai/library/m/{name}");
        root.write(&format!("ollama/blobs/sha256-{hash}"), b"not a model");
        root.write(&at("text"), b"{").write(&at("list"), b"[1]").write(&at("empty"), b"{}");
        root.write(&at("no-gguf"), &manifest(&format!("sha256:{hash}")));
        root.write(&at("up"), &manifest("sha256:../../../../etc/passwd"));
        root.write(&at("long"), &vec![b' '; LONGEST_MANIFEST as usize + 1]);
        root.write("studio/publisher/repo/short.gguf", b"GG");
        root.write("studio/publisher/repo/bad\u{1b}[31m.gguf", b"GGUF");
        let pipe = |path: &str| {
            let path = root.0.path().join(path);
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        pipe(&at("pipe"));
        pipe("studio/publisher/repo/pipe.gguf");
        // A folder that contains itself.
        std::os::unix::fs::symlink(root.0.path().join("studio"), root.0.path().join("studio/publisher/loop")).unwrap();
        assert_eq!(root.names(), Vec::<String>::new());
    }
}
