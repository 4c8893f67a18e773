//! Warnings about unknown `CHATNAP_*` environment variables: without one a misspelt name has no visible effect.

use super::KEYS;
use crate::wording::nearest;

/// Variables that the program reads beside one for each setting.
const OTHERS: &[&str] = &[
    // Read by build.rs; `cargo run` passes it on.
    "CHATNAP_BUILD_KERNELS",
    "CHATNAP_CONFIG",
    "CHATNAP_CPU",
    "CHATNAP_CUDA_KERNELS",
    "CHATNAP_CUDA_TUNING",
    "CHATNAP_LOG",
    "CHATNAP_TEST_PANIC",
];

/// A warning for each of `names` that begins with `CHATNAP_` and is unknown, in alphabetical order.
pub fn warnings<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut known: Vec<String> = KEYS.iter().map(super::Key::environment).collect();
    known.extend(OTHERS.iter().map(|name| (*name).to_owned()));
    let mut unknown: Vec<_> = names
        .into_iter()
        .filter(|name| name.starts_with("CHATNAP_") && !known.iter().any(|known| known == name))
        .collect();
    unknown.sort_unstable();
    unknown.into_iter().map(|name| warning(name, &known)).collect()
}

/// Values of `CHATNAP_CPU`, as `engine::cpu` reads them.
const CPU: &[&str] = &["plain", "neon", "avx2", "avxvnni", "avx512", "avx512vnni"];

/// A warning if `CHATNAP_CPU` has an unknown value.
pub fn cpu_warning(value: Option<&str>) -> Option<String> {
    let value = value.filter(|value| !value.is_empty() && !CPU.contains(value))?;
    Some(format!("CHATNAP_CPU={value} is unknown and has no effect; the values are {}", CPU.join(", ")))
}

fn warning(name: &str, known: &[String]) -> String {
    let bare = |name: &'_ str| name.trim_start_matches("CHATNAP_").to_owned();
    let settings: Vec<_> = known.iter().map(|known| bare(known)).collect();
    let advice = match nearest(&bare(name), settings.iter().map(String::as_str)) {
        Some(near) => format!("did you mean CHATNAP_{near}?"),
        None => "`chatnap config show` lists the settings, each of which has a variable".to_owned(),
    };
    format!("the environment has {name}, which is not a setting of chatnap and has no effect; {advice}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mistyped_variable_warns_with_the_nearest_name() {
        let found = warnings([
            "PATH",
            "CHATNAP_TOPP",
            "CHATNAP_IDLE_WINDW",
            "CHATNAP_MODEL",
            "chatnap_x",
            "CHATNAPPER",
            "CHATNAP_CPU",
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("CHATNAP_IDLE_WINDW") && found[0].ends_with("did you mean CHATNAP_IDLE_WINDOW?"),
            "{found:?}"
        );
        assert!(found[1].ends_with("did you mean CHATNAP_TOP_P?"), "{found:?}");
        let far = warnings(["CHATNAP_SOMETHING_ALTOGETHER_DIFFERENT"]);
        assert!(far[0].contains("chatnap config show"), "{far:?}");
    }

    #[test]
    fn an_unknown_instruction_set_warns() {
        assert!(cpu_warning(Some("avx3")).is_some_and(|warning| warning.contains("avx3") && warning.contains("avx2")));
        assert_eq!(cpu_warning(None), None);
        assert!(CPU.iter().all(|value| cpu_warning(Some(value)).is_none()));
    }

    /// Every `CHATNAP_*` name that the source code reads, developers' variables included.
    fn read_by_the_program(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "tests") {
                    read_by_the_program(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for call in ["std::env::var(\"", "std::env::var_os(\"", "environment)(\""] {
                    let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                    found.extend(names.filter(|name| name.starts_with("CHATNAP_")).map(str::to_owned));
                }
            }
        }
    }

    #[test]
    fn variables_read_by_the_program_do_not_warn() {
        let mut names = Vec::new();
        read_by_the_program(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        assert!(names.len() >= OTHERS.len(), "{names:?}");
        assert_eq!(warnings(names.iter().map(String::as_str)), [""; 0]);
        assert_eq!(warnings(OTHERS.iter().copied()), [""; 0]);
    }
}
