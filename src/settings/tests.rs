//! Tests of settings: precedence, origins, and errors for invalid values.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use super::*;

pub(super) struct Case {
    folder: tempfile::TempDir,
    environment: HashMap<&'static str, &'static str>,
    flags: Vec<Override>,
}

impl Case {
    pub(super) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
        Self { folder, environment: HashMap::new(), flags: Vec::new() }
    }

    pub(super) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.insert(name, value);
        self
    }

    pub(super) fn flag(mut self, key: &'static str, flag: &'static str, value: &str) -> Self {
        self.flags.push(Override { key, flag, value: value.into() });
        self
    }

    pub(super) fn resolve(&self) -> Result<Resolved, SettingsError> {
        let config = self.folder.path().to_path_buf();
        resolve(&Sources {
            folders: Folders { data: "/d".into(), cache: "/c".into(), config, state: "/s".into() },
            config: None,
            environment: &|name| self.environment.get(name).map(OsString::from),
            flags: self.flags.clone(),
            log: None,
        })
    }

    fn error(&self) -> String {
        let error = self.resolve().unwrap_err().0;
        error.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let case = Case::new("temperature = 0.1\ntop_k = 3\nmodel = \"file\"\n").env("CHATNAP_TOP_K", "5");
    let resolved = case.env("CHATNAP_MODEL", "env").flag("model", "--model", "flag").resolve().unwrap();
    assert_eq!(resolved.settings.sampling.temperature, Some(0.1));
    assert_eq!(resolved.settings.sampling.top_k, Some(5));
    assert_eq!(resolved.settings.model, "flag");
    assert_eq!(resolved.settings.idle_window, IdleWindow::After(std::time::Duration::from_secs(120)));
    assert_eq!(resolved.origin("top_k"), Origin::Environment("CHATNAP_TOP_K".into()));
    assert_eq!(resolved.origin("model"), Origin::Flag("--model"));
    assert_eq!(resolved.origin("theme"), Origin::Default);
    assert!(matches!(resolved.origin("temperature"), Origin::File { line: 1, .. }));
}

#[test]
fn errors_name_file_line_and_key() {
    for (config, error) in [
        ("\nmodle = \"x\"", "config.toml:2: unknown key \"modle\"; known are "),
        ("idle-window = \"2m\"", "config.toml:1: unknown key \"idle-window\"; did you mean idle_window?"),
        ("top_k = 1\ntop_p = 1.5", "config.toml:2: top_p: a number from 0 to 1 is wanted, not 1.5"),
        ("temperature = \"hot\"", "config.toml:1: temperature: a number is wanted here, not a TOML string"),
        ("temperature = nan", "config.toml:1: temperature: a number is wanted, not \"nan\""),
        ("max_tokens = 0", "config.toml:1: max_tokens: a whole number of 1 or more is wanted, not \"0\""),
        ("idle_window = 90", "config.toml:1: idle_window: \"90\" is not a duration"),
        ("\n\nmodel = [", "config.toml:3: "),
        ("[model]\nname = \"x\"", "config.toml:1: model: a text in quotes is wanted here, not a TOML table"),
        (
            "\n[persona.a]\ntemprature = 1",
            "config.toml:3: persona.a.temprature: unknown key; did you mean temperature?",
        ),
        ("[persona.a]\nseed = 1\ntop_p = 2", "config.toml:3: persona.a.top_p: a number from 0 to 1 is wanted, not 2"),
        (
            "[persona.a]\ntop_k = \"x\"",
            "config.toml:2: persona.a.top_k: a whole number is wanted here, not a TOML string",
        ),
        (
            "[persona.a]\ntheme = \"dark\"",
            "config.toml:2: persona.a.theme: a persona cannot set this; it can set model,",
        ),
        ("persona = \"a\"", "config.toml:1: persona: tables [persona.NAME] are wanted here, not a TOML string"),
        ("[persona]\na = 1", "config.toml:2: persona.a: a table [persona.a] is wanted here"),
        ("[prices]\ngpu_hour = -1", "config.toml:2: prices.gpu_hour: a number of 0 or more is wanted, not -1"),
        ("[prices]\ngpu-hour = 1", "config.toml:2: prices.gpu-hour: unknown key; did you mean gpu_hour?"),
        ("[prices]\ndate = \"soon\"", "config.toml:2: prices.date: a day such as 2026-11-01 is wanted, not \"soon\""),
        ("prices = 1", "config.toml:1: prices: a table [prices] is wanted here, not a TOML integer"),
        ("\n[persona.none]", "config.toml:2: persona.none: a persona cannot have the name \"none\""),
    ] {
        let message = Case::new(config).error();
        assert!(message.starts_with(error), "{config:?}: {message}");
    }
    assert!(Case::new("").env("CHATNAP_SEED", "-1").error().starts_with("CHATNAP_SEED: "));
}

#[test]
fn default_config_changes_nothing_and_lists_every_key() {
    let folders = Folders { data: "/d".into(), cache: "/c".into(), config: "/nowhere".into(), state: "/s".into() };
    let defaults = Settings::defaults(&folders);
    let resolved = Case::new(DEFAULT_CONFIG).resolve().unwrap();
    assert_eq!(Settings { config_dir: "/nowhere".into(), ..resolved.settings }, defaults);
    // Every commented `# key = value` is a valid line; if the key has a default, the line has that value.
    let mut seen = Vec::new();
    for line in DEFAULT_CONFIG.lines().filter_map(|line| line.strip_prefix("# ")) {
        let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| !name.contains(' ')) else { continue };
        let resolved = Case::new(line).resolve().unwrap();
        let key = keys::find(name).unwrap();
        if let (Some(default), false) = ((key.get)(&defaults), name.ends_with("_dir")) {
            assert_eq!((key.get)(&resolved.settings), Some(default), "{line}");
        }
        seen.push(name);
    }
    let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(seen, known);
}

#[test]
fn hf_hub_offline_sets_offline() {
    assert!(Case::new("").env("HF_HUB_OFFLINE", "1").resolve().unwrap().settings.offline);
    assert!(!Case::new("").env("HF_HUB_OFFLINE", "0").resolve().unwrap().settings.offline);
    let resolved = Case::new("").env("HF_HUB_OFFLINE", "1").env("CHATNAP_OFFLINE", "no").resolve().unwrap();
    assert!(!resolved.settings.offline);
}

#[test]
fn shown_settings_parse_back() {
    let case = Case::new("system = \"a \\\"b\\\"\\nc\"\nseed = 7\ndevice = \"cuda:1\"\nidle_window = \"never\"");
    let first = case.resolve().unwrap();
    let model = Recommendation { values: Recommended::default(), complete: true };
    let second = Case::new(&first.show(&model)).resolve().unwrap();
    // What was left to the model is shown with its value.
    let sampling = first.settings.sampling.resolve(&model.values).into();
    assert_eq!(
        Settings { config_dir: "/".into(), sampling, ..first.settings },
        Settings { config_dir: "/".into(), ..second.settings }
    );
}

#[test]
fn device_names_one_gpu_or_several_in_order() {
    let of = |value: &str| Case::new(&format!("device = \"{value}\"")).resolve().map(|found| found.settings);
    let gpus = |ordinals: &[usize]| DevicePreference::Cuda(GpuList::new(ordinals).unwrap());
    for (value, device, shown) in [
        ("auto", DevicePreference::Auto, "auto"),
        ("cpu", DevicePreference::Cpu, "cpu"),
        ("cuda", gpus(&[0]), "cuda:0"),
        ("cuda:1", gpus(&[1]), "cuda:1"),
        ("cuda:0,1", gpus(&[0, 1]), "cuda:0,1"),
        ("cuda:1,0", gpus(&[1, 0]), "cuda:1,0"),
        ("cuda:7,6,5,4,3,2,1,0", gpus(&[7, 6, 5, 4, 3, 2, 1, 0]), "cuda:7,6,5,4,3,2,1,0"),
    ] {
        let settings = of(value).unwrap();
        assert_eq!(settings.device, device, "{value}");
        let get = keys::find("device").unwrap().get;
        assert_eq!(get(&settings).as_deref(), Some(shown));
    }
    for (value, error) in [
        ("cuda:1,0,1", "GPU 1 is named twice in \"cuda:1,0,1\""),
        ("cuda:0,1,2,3,4,5,6,7,8", "a model runs on at most 8 GPUs, not on 9"),
        ("cuda:0,300", "GPUs have numbers from 0 to 255, not 300"),
    ] {
        let told = Case::new(&format!("device = \"{value}\"")).error();
        assert!(told.ends_with(error), "{told}");
    }
    for value in ["gpu", "cuda:", "cuda:0,", "cuda:,1", "cuda:0, 1", "cuda:-1", "cuda:+1", "cuda:0;1", "cuda:0,cuda:1"]
    {
        let told = Case::new(&format!("device = \"{value}\"")).error();
        assert!(told.contains("auto, cpu, cuda or cuda:N[,M…] is wanted, not"), "{told}");
    }
}

#[test]
fn missing_config_file_is_an_error_only_if_named() {
    let folders = Folders { config: "/nowhere".into(), ..Folders::default() };
    let sources = Sources {
        folders,
        config: Some(Path::new("/nowhere/x.toml")),
        environment: &|_| None,
        flags: Vec::new(),
        log: None,
    };
    assert!(resolve(&sources).unwrap_err().0.starts_with("/nowhere/x.toml: "));
    assert!(resolve(&Sources { config: None, ..sources }).is_ok());
}

#[test]
fn folder_settings_expand_home_and_variables() {
    let home = std::env::home_dir().unwrap();
    let case = Case::new("data_dir = \"~/x\"\ncache_dir = \"$HOME/y\"");
    let settings = case.resolve().unwrap().settings;
    assert_eq!((settings.data_dir, settings.cache_dir), (home.join("x"), home.join("y")));
    let case = Case::new("").env("CHATNAP_DATA_DIR", "~").flag("cache_dir", "--cache-dir", "${HOME}");
    let settings = case.resolve().unwrap().settings;
    assert_eq!((settings.data_dir, settings.cache_dir), (home.clone(), home.clone()));
    assert!(Case::new("data_dir = \"x/~\"").error().contains("an absolute path is wanted"));
    let named = Case::new("").env("CHATNAP_CONFIG", "~/nowhere/x.toml").error();
    assert!(named.starts_with(&home.join("nowhere/x.toml").display().to_string()), "{named}");
}

#[test]
fn password_in_a_model_address_is_not_shown() {
    for case in [
        Case::new("model = \"https://me:secret@huggingface.co/owner/repo\""),
        Case::new("").env("CHATNAP_MODEL", "https://me:secret@huggingface.co/owner/repo"),
        Case::new("").flag("model", "--model", "https://me:secret@huggingface.co/owner/repo"),
    ] {
        let shown = case.resolve().unwrap().show(&Recommendation { values: Recommended::default(), complete: false });
        assert!(shown.contains("\"https://huggingface.co/owner/repo\"") && !shown.contains("secret"), "{shown}");
    }
}

#[test]
fn personas_are_read_by_name() {
    let config =
        "seed = 1\n[persona.writer]\nsystem = \"\"\"\nTwo\nlines\"\"\"\n[persona.coder]\nmodel = \"m\"\ntop_k = 3\n";
    let personas = Case::new(config).resolve().unwrap().personas;
    let names: Vec<_> = personas.iter().map(|persona| persona.name.as_str()).collect();
    assert_eq!(names, ["coder", "writer"]);
    assert_eq!((personas[0].model(), personas[1].system()), (Some("m"), Some("Two\nlines")));
    let wrong = |name: &str| find_persona(&personas, name).unwrap_err();
    assert_eq!(wrong("codr"), "there is no persona \"codr\"; did you mean coder?");
    assert_eq!(wrong("xyzzy"), "there is no persona \"xyzzy\"; /persona lists those that were there at the start");
    assert!(find_persona(&[], "a").unwrap_err().contains("[persona.a] in the config file makes it"));
}

#[test]
fn think_is_on_off_or_a_flag() {
    for (config, think) in [
        ("", None),
        ("think = \"on\"", Some(true)),
        ("think = \"off\"", Some(false)),
        ("think = false", Some(false)),
        ("[persona.a]\nthink = true", None),
    ] {
        assert_eq!(Case::new(config).resolve().unwrap().settings.think, think, "{config}");
    }
    let case = Case::new("think = true").env("CHATNAP_THINK", "off");
    assert_eq!(case.resolve().unwrap().settings.think, Some(false));
    let shown = case.resolve().unwrap().show(&Recommendation { values: Recommended::default(), complete: true });
    assert!(shown.contains("think = \"off\""), "{shown}");
    let error = Case::new("think = \"maybe\"").error();
    assert!(error.ends_with("think: \"on\" or \"off\" is wanted, not \"maybe\""), "{error}");
}

#[test]
fn prices_of_the_config_replace_the_source_and_the_date_of_the_built_in_ones() {
    use crate::usage::Prices;
    let prices = |config: &str| Case::new(config).resolve().unwrap().prices;
    assert_eq!(prices(""), Prices::default());
    let some = prices("[prices]\ngpu_hour = 2\ncurrency = \"EUR\"\n");
    assert_eq!((some.gpu_hour, some.currency.as_str(), some.waiting_hour), (2.0, "EUR", 20.0));
    assert_eq!((some.source.as_str(), some.date), ("the config file", None));
    for date in ["2026-03-04", "\"2026-03-04\""] {
        let dated = prices(&format!("[prices]\nsource = \"a page\"\ndate = {date}"));
        assert_eq!((dated.source.as_str(), dated.date.as_deref()), ("a page", Some("2026-03-04")));
    }
}
