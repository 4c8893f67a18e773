//! Runs `python3 -m pip download` without executing code of the current folder or of a source package.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::mirror::Wheel;

/// The source's name for users: pip decides from the user's settings which index it asks.
pub(super) const INDEX: &str = "the Python package index";

/// Why pip could not be started.
pub(super) enum Failure {
    /// This file cannot be written.
    Write(PathBuf),
    /// Python cannot be started.
    Run,
}

/// A child process that is killed on drop.
pub(super) struct Running(Child);

impl Running {
    /// The exit status; `None` while the process runs.
    pub(super) fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts pip in `work`, a private folder, which receives the wheel; pip's output goes to `log`.
///
/// `-m` puts the current folder first on the module path: it is `work`, and Python from 3.11 on omits it
/// (`PYTHONSAFEPATH`). `-I` and `pip --isolated` would also hide the user's own pip and index settings. Only a wheel
/// with the expected hash is accepted: pip runs the `setup.py` of a source package even to read its metadata.
pub(super) fn start(wheel: &Wheel<'_>, work: &Path, log: &Path) -> Result<Running, (Failure, Error)> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |error| (Failure::Write(path), error)
    };
    let requirements = work.join("requirements.txt");
    let line = format!("{} --hash=sha256:{}\n", wheel.package, wheel.sha256);
    let written = File::create_new(&requirements).and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(write(&requirements))?;
    let output = File::create_new(log).map_err(write(log))?;
    let errors = output.try_clone().map_err(write(log))?;
    let mut command = Command::new(wheel.python);
    command
        .args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"])
        .args(["--only-binary=:all:", "--require-hashes", "-r"])
        .arg(&requirements)
        .arg("-d")
        .arg(work)
        .current_dir(work)
        // pip downloads to its temporary folder first: in `work` its size can be reported, and /tmp stays free.
        .env("TMPDIR", work)
        .env("PIP_PROGRESS_BAR", "off")
        .env("PYTHONSAFEPATH", "1")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    for (name, value) in std::env::vars_os() {
        if is_secret(&name) {
            command.env_remove(&name);
        } else if let Some(value) = absolute(&name, &value) {
            command.env(&name, value);
        }
    }
    command.spawn().map(Running).map_err(|error| (Failure::Run, error))
}

/// Whether a variable is one of the hub's, or has a name that suggests a secret and is not one of pip's.
fn is_secret(name: &OsStr) -> bool {
    const MARKS: &[&str] = &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY"];
    let name = name.to_string_lossy().to_ascii_uppercase();
    let is_hubs = name.starts_with("HF_") || name.starts_with("HUGGING");
    is_hubs || (!name.starts_with("PIP_") && MARKS.iter().any(|mark| name.contains(mark)))
}

/// The value of a pip variable with its relative paths made absolute: they refer to the user's current folder, and pip
/// runs in another one. `None` if nothing changes.
fn absolute(name: &OsStr, value: &OsStr) -> Option<OsString> {
    let full = |path: &str| {
        let exists = Path::new(path).is_relative() && Path::new(path).exists();
        exists.then(|| std::path::absolute(path).ok()?.into_os_string().into_string().ok()).flatten()
    };
    let value = value.to_str()?;
    match name.to_str()? {
        "PIP_CONFIG_FILE" | "PIP_CERT" | "PIP_CLIENT_CERT" | "REQUESTS_CA_BUNDLE" | "SSL_CERT_FILE" => {
            full(value).map(OsString::from)
        }
        "PIP_FIND_LINKS" => {
            let places: Vec<_> = value.split_whitespace().map(|place| full(place).unwrap_or(place.into())).collect();
            Some(places.join(" ").into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secret_variables_are_distinguished_from_those_that_pip_needs() {
        for name in ["HF_TOKEN", "HF_HOME", "hf_token", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY"] {
            assert!(is_secret(OsStr::new(name)), "{name}");
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "DB_PASSWD"] {
            assert!(is_secret(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "PIP_INDEX_URL", "PIP_TOKEN", "HTTPS_PROXY", "PYTHONPATH", "NETRC", "SHELF_LIFE"] {
            assert!(!is_secret(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn relative_paths_in_pip_variables_become_absolute() {
        let here = std::env::current_dir().unwrap();
        let of = |name: &str, value: &str| absolute(OsStr::new(name), OsStr::new(value));
        assert_eq!(of("PIP_CERT", "Cargo.toml"), Some(here.join("Cargo.toml").into_os_string()));
        assert_eq!(of("PIP_CERT", "/etc/hosts"), None);
        let links = format!("https://host/x {}", here.join("src").display());
        assert_eq!(of("PIP_FIND_LINKS", "https://host/x src"), Some(links.into()));
        assert_eq!(of("PIP_INDEX_URL", "src"), None);
    }
}
