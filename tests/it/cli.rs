//! Subcommands, help, completions and usage errors.

use crate::run::Home;
use crate::support::starter_model;

#[test]
fn help_version_completions_and_man_page() {
    let home = Home::new();
    let help = home.run(&["--help"]);
    assert_eq!((help.code(), help.stderr.as_str()), (0, ""));
    for flag in ["--prompt", "--idle-window", "--on-overflow", "--dry-run", "130 interrupted"] {
        assert!(help.stdout.contains(flag), "{flag}");
    }
    assert!(help.stdout.contains("report"));
    assert!(home.run(&["--version"]).stdout.starts_with("chatnap "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = home.run(&["completions", shell]);
        assert!(ran.code() == 0 && ran.stdout.contains("idle-window"), "{shell}");
    }
    let man = home.run(&["man"]);
    assert!(man.stdout.contains(".TH chatnap") && man.stdout.contains("idle\\-window"), "{}", man.stdout);
}

#[test]
fn usage_errors_exit_with_code_2() {
    let home = Home::new();
    for (args, said) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["-p", "hi", "--temperature", "hot"], "--temperature"),
        (&["--temperature", "1", "models", "list"], "--temperature"),
        (
            &["-p", "hi", "--theme", "nope"],
            "--theme: there is no theme \"nope\"; there are auto, dark, light, high-contrast",
        ),
        (&["report", "--repeat", "0"], "from 1 to 1000"),
        (&["conversations", "show", "abc"], "no conversation"),
        #[cfg(not(cuda))]
        (&["gpu"], "no CUDA support"),
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    let ran = home.run(&["-p", "hi", "--top-p", "7", "--format", "json"]);
    assert_eq!((ran.code(), &ran.json()["error"]["code"]), (2, &2.into()));
}

#[test]
fn models_list_and_path() {
    let home = Home::new();
    let list = home.run(&["models", "list", "--format", "json"]).json();
    let starter = list.as_array().unwrap().iter().find(|model| model["model"] == "smollm2-135m").unwrap();
    assert!(starter["path"].is_null() && starter["size"].is_u64(), "{starter}");
    let ran = home.run(&["models", "path", "smollm2-135m"]);
    assert_eq!(ran.code(), 3, "{ran:?}");
    let path = starter_model();
    let ran = home.run(&["models", "path", path.to_str().unwrap()]);
    assert_eq!(ran.stdout.trim_end(), path.to_str().unwrap());
    let listed = home.run(&["models", "list"]).stdout;
    assert!(listed.contains("smollm2-135m"));
    assert_eq!(home.run(&["models"]).stdout, listed);
    assert_eq!(home.run(&["conversations"]).code(), 0);
    assert_eq!(home.run(&["models", "--format", "json"]).json(), list);
    assert_eq!(home.run(&["conversations", "--format", "json"]).json(), serde_json::json!([]));
    assert_eq!(home.run(&["models", "--format", "json", "path"]).code(), 2);
    assert!(home.run(&["models", "list", "--format", "markdown"]).stdout.starts_with("| model | "));
}

#[test]
fn models_recommend_names_the_machine_and_a_model_for_each_class() {
    let home = Home::new();
    let found = home.run(&["models", "recommend", "--format", "json"]).json();
    assert!(found["machine"]["ram_bytes"].is_u64() && found["on_disk"] == serde_json::json!([]), "{found}");
    assert_eq!(found["auto"], "smollm2-135m");
    let classes = found["classes"].as_array().unwrap();
    let of = |device: &str, gib: u64| {
        classes.iter().find(|class| class["device"] == device && class["memory_gib"] == gib).unwrap().clone()
    };
    for (device, gib) in [("cpu", 8), ("gpu", 8), ("gpu", 12), ("gpu", 16), ("gpu", 24), ("gpu", 48), ("gpu", 80)] {
        let class = of(device, gib);
        assert!(class["licence"] == "Apache-2.0" && class["size"].is_u64() && class["on_disk"] == false, "{class}");
    }
    let ran = home.run(&["models", "recommend"]);
    let said = ["this machine: ", "on disk: no models yet\n", "recommended: ", "GPU, 24 GB  mistral-small-3.2"];
    assert!(said.iter().all(|said| ran.stdout.contains(said)), "{ran:?}");
    let all = home.run(&["models", "list", "--format", "json"]).json();
    let fitting = home.run(&["models", "list", "--fits", "--format", "json"]).json();
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|model| model["model"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&fitting).contains(&"smollm2-135m".to_owned()) && names(&fitting).len() <= names(&all).len());
}

#[test]
fn auto_is_the_model_used_last_and_else_the_starter() {
    let home = Home::new();
    let ran = home.run(&["-p", "hi", "--offline"]);
    assert!(ran.code() == 3 && ran.stderr.contains("smollm2-135m is not on this machine"), "{ran:?}");
    let model = home.model("fallback = \"You said: {user}\"");
    assert_eq!(home.run(&["-p", "hi", "-m", &model]).stdout, "You said: hi\n");
    for args in [&["-p", "hi"][..], &["-p", "hi", "-m", "auto"]] {
        assert_eq!(home.run(args).stdout, "You said: hi\n");
    }
    assert!(home.run(&["config", "show"]).stdout.contains("model = \"auto\""));
    assert!(home.run(&["models", "names"]).stdout.starts_with("auto\n"));
}

#[test]
fn model_name_that_exists_as_a_file_gets_a_path_hint() {
    let home = Home::new();
    home.file("here/config.json", "{}");
    home.file("notes", "no model");
    home.file("blob", "GGUF");
    let said = |word: &str| {
        let mut command = home.chatnap(&["-m", word, "-p", "hi", "--offline"]);
        let ran = crate::run::finish(command.current_dir(home.path()).spawn().unwrap());
        assert_eq!((ran.code(), ran.stderr.lines().count()), (3, 1), "{ran:?}");
        ran.stderr
    };
    assert!(said("here").contains("write ./here."), "{}", said("here"));
    assert!(said("blob").contains("write ./blob."), "{}", said("blob"));
    assert!(said("notes").contains("it is not a GGUF file. `chatnap models list`"), "{}", said("notes"));
    assert!(!said("nosuch").contains("./"), "{}", said("nosuch"));
    assert!(said("smollm2").contains("did you mean smollm2-135m? `chatnap models list`"), "{}", said("smollm2"));
    // With `./` they are opened as local paths.
    assert!(said("./here").contains("./here is not a model folder"), "{}", said("./here"));
    let mut command = home.chatnap(&["-m", "./blob", "-p", "hi"]);
    let ran = crate::run::finish(command.current_dir(home.path()).spawn().unwrap());
    assert!(ran.code() == 1 && ran.stderr.contains("./blob: the file is truncated"), "{ran:?}");
    assert_eq!(ran.stderr.matches("./blob").count(), 1, "{ran:?}");
}

#[test]
fn bash_completes_model_names() {
    let home = Home::new();
    let script = home.file("completions.bash", home.run(&["completions", "bash"]).stdout);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_chatnap"));
    let complete = |line: &str, word: &str| {
        let mut bash = std::process::Command::new("bash");
        home.prepare(&mut bash);
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let ask = "source \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                   $(complete -p chatnap | sed 's/.*-F \\([^ ]*\\).*/\\1/') chatnap \"$3\" x; printf '%s\\n' \"${COMPREPLY[@]}\"";
        bash.env("PATH", path).args(["--norc", "-c", ask, "bash", script.to_str().unwrap(), line, word]);
        let ran = crate::run::finish(bash.spawn().unwrap());
        assert_eq!(ran.stderr, "", "{ran:?}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("chatnap -m smol", "smol"), ["smollm2-135m"]);
    assert_eq!(complete("chatnap -p hi --model=smol", "smol"), ["smollm2-135m"]);
    assert_eq!(complete("chatnap models pull gemma", "gemma"), ["gemma-3-4b", "gemma-3-4b:q8_0"]);
    // bash splits the word at the colon and replaces only the part after it.
    assert_eq!(complete("chatnap -m llama-3.1-8b:q", "q"), ["q8_0"]);
    assert!(complete("chatnap --idle", "--idle").contains(&"--idle-window".to_owned()));
    let repo = "hf/hub/models--owner--mine/snapshots/abc/mine-Q4_K_M.gguf";
    home.file(repo, "GGUF");
    home.file("hf/hub/models--owner--mine/refs/main", "abc");
    assert_eq!(complete("chatnap -m own", "own"), ["owner/mine"]);
}

#[test]
fn tokenize_reads_an_argument_or_stdin() {
    let home = Home::new();
    let model = starter_model();
    let model = model.to_str().unwrap();
    let text = home.run(&["tokenize", "-m", model, "Hello world"]);
    let ids: Vec<u64> = text.stdout.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert!(text.stdout.ends_with('\n') && ids.len() == 2, "{text:?}");
    let json = home.pipe(&["tokenize", "-m", model, "--format", "json"], b"Hello world").json();
    assert_eq!(json["ids"], serde_json::json!(ids));
    assert_eq!(json["pieces"], serde_json::json!(["Hello", "Ġworld"]));
    let count =
        |args: &[&str]| home.run(&[&["tokenize", "-m", model], args].concat()).stdout.split_whitespace().count();
    assert_eq!(count(&["--special", "<|im_end|>"]), 1);
    assert!(count(&["<|im_end|>"]) > 1);
    // stdin is encoded byte for byte: the trailing newline is a token.
    let with = home.pipe(&["tokenize", "-m", model], b"Hello world\n").stdout;
    assert_eq!(with.split_whitespace().count(), 3);
}

#[test]
fn conversations_list_search_show_rename_and_remove() {
    let home = Home::new();
    assert_eq!(home.run(&["conversations", "list"]).stdout.lines().count(), 1, "the head of the table");
    let model = home.model("fallback = \"an \\u001b[31manswer\"");
    let id =
        home.run(&["-m", &model, "-p", "Where is \u{1b}[1mOslo?", "--format", "json"]).json()["conversation"].clone();
    let id = id.as_str().unwrap();
    let listed = home.run(&["conversations", "list", "--format", "json"]).json();
    assert_eq!((&listed[0]["conversation"], &listed[0]["turns"]), (&id.into(), &1.into()));
    assert!(home.run(&["conversations", "list"]).stdout.contains("Where is Oslo?"));
    assert_eq!((&listed[0]["turns"], &listed[0]["answers"]), (&1.into(), &1.into()));
    assert!(!home.run(&["conversations", "list"]).stdout.contains("no answer"));
    assert_eq!(home.run(&["-m", "nosuch/model", "--offline", "-p", "Where is Bodø?"]).code(), 3);
    let unanswered = home.run(&["conversations", "list"]).stdout;
    assert!(unanswered.lines().any(|line| line.contains("1, failed") && line.contains("Bodø")), "{unanswered}");
    let first = &home.run(&["conversations", "list", "--format", "json"]).json()[0];
    assert_eq!((&first["turns"], &first["answers"]), (&1.into(), &0.into()));
    assert!(home.run(&["conversations", "search", "oslo"]).stdout.contains(id));
    let searched = home.run(&["conversations", "search", "bergen"]);
    assert!(!searched.stdout.contains(id));
    assert_eq!((searched.code(), searched.stderr.as_str()), (0, "No stored conversation holds \"bergen\".\n"));
    let shown = home.run(&["conversations", "show", &id[..5]]).stdout;
    assert!(shown.contains("## user\n\nWhere is"), "{shown}");
    assert_eq!(home.run(&["conversations", "remove", "last"]).code(), 0);
    assert_eq!(home.run(&["conversations", "rename", "last", "Capitals"]).code(), 0);
    assert!(home.run(&["conversations", "list"]).stdout.contains("Capitals"));
    assert_eq!(home.run(&["conversations", "remove", id, "zzz"]).code(), 2, "a wrong id removes nothing");
    assert_eq!(home.run(&["conversations", "remove", ""]).code(), 2, "an empty id removes nothing");
    let missing = home.run(&["conversations", "export", "zzz", "--format", "json"]);
    assert_eq!((missing.code(), &missing.json()["error"]["code"]), (2, &serde_json::json!(2)), "{missing:?}");
    assert_eq!(home.run(&["conversations", "remove", id]).code(), 0);
    assert_eq!(home.run(&["conversations", "list", "--format", "json"]).json(), serde_json::json!([]));
    assert!(home.run(&["conversations", "list", "--removed"]).stdout.contains("Capitals"));
    assert_eq!(home.run(&["conversations", "restore", id]).code(), 0);
    assert!(home.run(&["conversations", "list"]).stdout.contains("Capitals"));
    assert_eq!(home.run(&["conversations", "remove", "--purge", id]).code(), 0);
    assert!(!home.run(&["conversations", "list", "--removed"]).stdout.contains("Capitals"));
}

#[test]
fn conversations_are_exported_and_imported_again() {
    let home = Home::new();
    let model = home.model("fallback = \"vast and mysterious\"");
    for prompt in ["Tell me of the sea.", "And the sky?"] {
        assert_eq!(home.run(&["-m", &model, "-p", prompt]).code(), 0);
    }
    let found = home.run(&["conversations", "search", "mysterious vast sea"]).stdout;
    assert!(found.contains("\n  Tell me of the sea. vast and mysterious\n"), "{found}");
    let lines = home.run(&["conversations", "export", "--all", "--format", "jsonl"]).stdout;
    assert_eq!(lines.lines().count(), 2);
    let array = home.run(&["conversations", "export", "--all", "--format", "json"]).stdout;
    for (name, text) in [("lines.jsonl", &lines), ("array.json", &array)] {
        let other = Home::new();
        let file = other.path().join(name);
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let said = other.run(&["conversations", "import", file]).stdout;
        assert!(said.starts_with("imported 2 conversations: "), "{said}");
        assert_eq!(other.run(&["conversations", "export", "--all", "--format", "jsonl"]).stdout, lines, "{name}");
        let said = other.run(&["conversations", "import", file]).stdout;
        assert_eq!(said, "imported 0 conversations; 2 stored already, left as each is\n");
        std::fs::write(file, format!("{lines}{{\"turns\": 1}}\n")).unwrap();
        let ran = other.run(&["conversations", "import", file]);
        assert_eq!(ran.code(), 1);
        assert!(ran.stderr.contains("line 3") && ran.stderr.contains("Nothing was stored"), "{ran:?}");
    }
}

#[test]
fn seed_that_was_drawn_is_stored() {
    let home = Home::new();
    let model = home.model("fallback = \"x\"");
    let run = |more: &[&str]| home.run(&[&["-m", &model, "-p", "hi", "--format", "json"], more].concat()).json();
    let seeds = || {
        let lines = home.run(&["conversations", "export", "last", "--format", "json"]).json();
        lines["turns"][0]["sampling"]["seed"].as_u64()
    };
    let drawn = run(&[])["seed"].as_u64();
    assert_eq!((seeds(), drawn.is_some()), (drawn, true));
    assert_ne!(run(&[])["seed"].as_u64(), drawn);
    assert_eq!(run(&["--seed", "7"])["seed"], 7);
    assert_eq!(seeds(), Some(7));
}

#[test]
fn turn_is_not_stored_with_no_save() {
    let home = Home::new();
    let model = home.model("fallback = \"an answer\"");
    let ran = home.run(&["-m", &model, "-p", "secret", "--no-save"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("an answer\n", ""), "{ran:?}");
    assert_eq!(home.run(&["conversations", "list", "--format", "json"]).json(), serde_json::json!([]));
    assert_eq!(home.run(&["-m", &model, "-p", "kept"]).code(), 0);
    assert_eq!(home.run(&["-m", &model, "-c", "-p", "secret", "--no-save", "--format", "json"]).code(), 0);
    let kept = home.run(&["conversations", "list", "--format", "json"]).json();
    assert_eq!((kept.as_array().unwrap().len(), &kept[0]["turns"]), (1, &1.into()));
}
