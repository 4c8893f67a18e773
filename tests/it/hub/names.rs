//! Model names in the forms that users paste, and the folders in which models are stored.

use super::*;

#[test]
#[cfg(unix)]
fn removing_a_symlink_out_of_the_cache_is_reported_and_keeps_its_target() {
    let story = Story::new();
    let run =
        |arguments: &[&str]| outcome(program(story.root.path()).env("HF_HOME", story.root.path()).args(arguments));
    let own = root_file(&story, "mine.gguf");
    let link = |folder: &str, name: &str| {
        let folder = story.root.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(&own, folder.join(name)).unwrap();
    };
    let snapshot = format!("hub/models--owner--repo/snapshots/{COMMIT}");
    for name in [REPO.to_owned(), format!("{REPO}:{FILE}")] {
        link(&snapshot, FILE);
        let (code, said, complaint) = run(&["models", "remove", &name]);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(said.contains(&format!("removed {name}: only links")), "{said}");
        assert!(own.exists() && !story.root.path().join(&snapshot).join(FILE).exists());
        assert_eq!(run(&["models", "remove", &name]).0, Some(3));
    }
    link(".cache/chatnap/models", "SmolLM2-135M-Instruct.Q4_1.gguf");
    let (code, said, complaint) = run(&["models", "remove", "smollm2-135m"]);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(said.contains("only links") && own.exists(), "{said}");

    // Two names of one blob: removing the first deletes only a link.
    story.locate(REPO).unwrap();
    let snapshot = story.root.path().join(&snapshot);
    std::fs::copy(snapshot.join(FILE).canonicalize().unwrap(), story.root.path().join("copy")).unwrap();
    std::os::unix::fs::symlink(snapshot.join(FILE).canonicalize().unwrap(), snapshot.join("b-Q8_0.gguf")).unwrap();
    assert!(run(&["models", "remove", "owner/repo:Q8_0"]).1.contains("only links"));
    assert!(run(&["models", "remove", "owner/repo:Q4_K_M"]).1.contains("1.0 MB freed"));
}

#[test]
fn pasted_urls_and_names_resolve_to_the_cached_file() {
    let story = Story::new();
    let endpoint = story.hub.endpoint();
    let host = endpoint.trim_start_matches("http://");
    let path = only_file(story.locate(REPO).unwrap());
    let requests = story.hub.seen().len();
    for name in [
        "https://huggingface.co/owner/repo".to_owned(),
        "https://huggingface.co/owner/repo/tree/main?x=y".to_owned(),
        format!("https://huggingface.co/owner/repo/resolve/main/{FILE}?download=true"),
        "hf.co/owner/repo:Q4_K_M".to_owned(),
        "huggingface.co/owner/repo/".to_owned(),
        format!("{endpoint}/owner/repo/blob/main/{FILE}"),
        format!("{host}/owner/repo"),
        "owner/repo/".to_owned(),
        format!("file://{}", path.display()),
    ] {
        assert_eq!(only_file(story.locate(&name).unwrap()), path, "{name}");
    }
    assert_eq!(story.hub.seen().len(), requests, "every name resolves to the cached file");
    let message = refused(story.locate("https://example.com/owner/repo"));
    assert!(message.contains("example.com") && message.contains("HF_ENDPOINT"), "{message}");
}

#[test]
fn existing_file_takes_precedence_over_other_readings_of_its_name() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["blobs", "my blobs", "tensors/part"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    let files = ["blobs/sha256-abc", "blobs/sha256:abc", "my blobs/sha256-abc", "blobs/sha256-a b"];
    for name in files {
        std::fs::write(root.path().join(name), "GGUF").unwrap();
    }
    std::fs::write(root.path().join("blobs/notes"), "text").unwrap();
    let path_of = |name: &str| {
        let mut command = program(root.path());
        outcome(command.current_dir(root.path()).env("HF_ENDPOINT", closed_port()).args(["models", "path", name]))
    };
    for name in files {
        assert_eq!(path_of(name), (Some(0), format!("{name}\n"), String::new()));
    }
    let url = format!("file://{}/my%20blobs/sha256-abc", root.path().display());
    assert_eq!(path_of(&url).1, format!("{}/my blobs/sha256-abc\n", root.path().display()));
    assert!(path_of("blobs/notes").2.contains("is not a model"));
    let mut pull = program(root.path());
    let pull = pull.current_dir(root.path()).env("HF_ENDPOINT", closed_port()).args(["models", "pull", "tensors/part"]);
    let said = outcome(pull).2;
    assert!(said.contains("write ./tensors/part"), "{said}");
    let mut remove = program(root.path());
    let said = outcome(remove.current_dir(root.path()).args(["models", "remove", "blobs/sha256-abc"])).2;
    assert!(said.contains("file of your own") && root.path().join("blobs/sha256-abc").exists(), "{said}");
}

#[test]
fn tilde_and_variables_expand_in_folder_settings() {
    let story = Story::new();
    story.locate(REPO).unwrap();
    std::fs::rename(story.root.path().join("hub"), story.root.path().join("moved")).unwrap();
    std::fs::create_dir(story.root.path().join("x")).unwrap();
    std::fs::rename(story.root.path().join("moved"), story.root.path().join("x/hub")).unwrap();
    for (name, value) in [
        ("HF_HOME", "~/x"),
        ("HF_HOME", "$HOME/x"),
        ("HF_HUB_CACHE", "~/x/hub"),
        ("HF_HUB_CACHE", "${HOME}/x/hub"),
        ("HUGGINGFACE_HUB_CACHE", "~/$X/hub"),
    ] {
        let mut command = program(story.root.path());
        command.env(name, value).env("X", "x").args(["--offline", "models", "path", REPO]);
        let (code, path, complaint) = outcome(&mut command);
        assert_eq!(code, Some(0), "{name}={value}: {complaint}");
        assert!(path.starts_with(&story.root.path().join("x/hub").display().to_string()), "{path}");
    }
    let config = story.root.path().join("config.toml");
    std::fs::write(&config, "data_dir = \"~/own\"\ncache_dir = \"~/$X\"\n").unwrap();
    let mut command = program(story.root.path());
    let shown = outcome(command.env("X", "x").args(["--config=~/config.toml", "config", "show"])).1;
    for line in ["data_dir = \"{}/own\"", "cache_dir = \"{}/x\""] {
        assert!(shown.contains(&line.replace("{}", &story.root.path().display().to_string())), "{shown}");
    }
}
