//! The config file, the environment and the flags, as the program shows them.

use crate::run::Home;

#[test]
fn default_config_is_printed_or_written_without_overwriting() {
    let home = Home::new();
    let path = home.run(&["config", "path"]).stdout;
    assert_eq!(path.trim_end(), home.path().join("config/chatnap/config.toml").to_str().unwrap());
    let printed = home.run(&["config", "default"]).stdout;
    assert_eq!(home.run(&["config", "default", "--write"]).code(), 0);
    assert_eq!(std::fs::read_to_string(path.trim_end()).unwrap(), printed);
    std::fs::write(path.trim_end(), "top_k = 7\n").unwrap();
    let ran = home.run(&["config", "default", "--write"]);
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr.contains("exists already"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(path.trim_end()).unwrap(), "top_k = 7\n");
    let other = home.path().join("new/other.toml");
    assert_eq!(home.run(&["config", "default", other.to_str().unwrap()]).code(), 0);
    assert_eq!(std::fs::read_to_string(other).unwrap(), printed);
}

#[test]
fn config_show_prints_each_value_with_its_source() {
    let home = Home::new();
    let file = home.file("config/chatnap/config.toml", "# mine\ntop_k = 7\n");
    let mut command = home.chatnap(&["config", "show", "-m", "x", "--offline"]);
    let ran = crate::run::finish(command.env("CHATNAP_IDLE_WINDOW", "90s").spawn().unwrap());
    let line = |key: &str| ran.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{ran:?}"));
    assert!(line("top_k = 7 ").ends_with(&format!("# {}:2", file.display())));
    assert!(line("idle_window = \"1m30s\"").ends_with("# environment, CHATNAP_IDLE_WINDOW"));
    assert!(line("model = \"x\"").ends_with("# flag, --model"));
    assert!(line("offline = true").ends_with("# flag, --offline"));
    assert!(line("temperature = 0.8").ends_with("# default, unless the model has its own"));
    assert!(line("on_overflow = ").ends_with("# default"));
}

#[test]
fn several_gpus_are_one_device_from_every_source() {
    let home = Home::new();
    let shown = |args: &[&str], variable: &str| {
        let mut command = home.chatnap(args);
        let ran = crate::run::finish(command.env("CHATNAP_DEVICE", variable).spawn().unwrap());
        ran.stdout.lines().find(|line| line.starts_with("device = ")).unwrap_or_else(|| panic!("{ran:?}")).to_owned()
    };
    assert!(shown(&["config", "show"], "cuda:1,0").starts_with("device = \"cuda:1,0\" "));
    let flag = shown(&["config", "show", "--device", "cuda:0,1,2,3"], "cuda:1,0");
    assert!(flag.starts_with("device = \"cuda:0,1,2,3\" ") && flag.ends_with("# flag, --device"), "{flag}");
    let file = home.file("config/chatnap/config.toml", "device = \"cuda:0,1\"\n");
    let ran = home.run(&["config", "show"]);
    let line = ran.stdout.lines().find(|line| line.starts_with("device = \"cuda:0,1\" "));
    assert!(line.is_some_and(|line| line.ends_with(&format!("# {}:1", file.display()))), "{ran:?}");
    let ran = home.run(&["config", "show", "--device", "cuda:0,0"]);
    assert!(ran.code() == 2 && ran.stderr.contains("GPU 0 is named twice"), "{ran:?}");
}

#[test]
fn config_errors_name_file_and_line() {
    let home = Home::new();
    let file = home.file("config/chatnap/config.toml", "top_k = 7\ntemprature = 1\n");
    let ran = home.run(&["-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.starts_with(&format!("chatnap: {}:2: unknown key \"temprature\"", file.display())), "{ran:?}");
    let other = home.file("other.toml", "\u{1}\u{2}\u{3} garbage");
    let ran = home.run(&["--config", other.to_str().unwrap(), "-p", "hi"]);
    assert_eq!(ran.code(), 2);
    assert!(ran.stderr.starts_with(&format!("chatnap: {}:1: ", other.display())), "{ran:?}");
    assert_eq!(home.run(&["--config", "/nowhere.toml", "-p", "hi"]).code(), 2);
}

#[test]
fn unknown_chatnap_variable_prints_one_warning() {
    let home = Home::new();
    let model = home.model("fallback = \"x\"");
    let with = |args: &[&str]| {
        let mut command = home.chatnap(args);
        let ran = command.env("CHATNAP_MODLE", "x").env("CHATNAP_THEME", "nope").env("CHATNAP_CPU", "plain").spawn();
        crate::run::finish(ran.unwrap())
    };
    let ran = with(&["-m", &model, "-p", "hi"]);
    assert_eq!((ran.code(), ran.stdout.as_str(), ran.stderr.lines().count()), (0, "x\n", 1), "{ran:?}");
    assert!(ran.stderr.starts_with("chatnap: warning: the environment has CHATNAP_MODLE"), "{ran:?}");
    assert!(ran.stderr.contains("did you mean CHATNAP_MODEL?"), "{ran:?}");
    assert_eq!(with(&["-m", &model, "-p", "hi", "-q"]).stderr, "");
    assert_eq!(with(&["config", "path"]).stderr, ran.stderr);
}
