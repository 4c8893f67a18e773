//! The two sides of a comparison: the settings of each, and how it is called.

use crate::cli::args::CompareArgs;
use crate::failure::Failure;
use crate::protocol::random_seed;
use crate::sanitize::sanitize_line;
use crate::settings::{Applies, Resolved, Settings, named};
use crate::survey;
use crate::wording::short_name;

/// One side.
pub(super) struct Side {
    /// `A` or `B`.
    pub letter: char,
    /// Its settings, with a seed.
    pub settings: Settings,
    /// What was set for this side alone: `temperature=0`.
    pub own: Vec<String>,
}

impl Side {
    /// `A: qwen3-0.6b, temperature=0`.
    pub(super) fn title(&self) -> String {
        let own: String = self.own.iter().map(|setting| format!(", {setting}")).collect();
        sanitize_line(&format!("{}: {}{own}", self.letter, short_name(&self.settings.model)))
    }
}

/// Both sides. The same seed is drawn for both, unless settings have one.
pub(super) fn both(resolved: &Resolved, args: &CompareArgs) -> Result<[Side; 2], Failure> {
    if args.models.len() > 2 {
        return Err(Failure::usage("compare takes two models: -m A -m B."));
    }
    if args.models.len() < 2 && args.a.is_empty() && args.b.is_empty() {
        return Err(Failure::usage(
            "There is nothing to compare: name two models (-m A -m B), or settings of a side (--b temperature=1).",
        ));
    }
    let mut common = resolved.settings.clone();
    if args.scenarios.is_some() {
        // As in a report: greedy, unless a flag says otherwise.
        common.sampling.temperature = Some(0.0);
    }
    apply(&mut common, &args.set, "--set")?;
    common.sampling.seed.get_or_insert_with(random_seed);
    let side = |letter: char, place: usize, own: &[String]| -> Result<Side, Failure> {
        let mut settings = common.clone();
        if let Some(model) = args.models.get(place).or(args.models.first()) {
            settings.model.clone_from(model);
        }
        apply(&mut settings, own, if letter == 'A' { "--a" } else { "--b" })?;
        Ok(Side { letter, settings: survey::settled(&settings), own: own.to_vec() })
    };
    Ok([side('A', 0, &args.a)?, side('B', 1, &args.b)?])
}

/// Applies `KEY=VALUE` settings.
fn apply(settings: &mut Settings, given: &[String], flag: &str) -> Result<(), Failure> {
    for text in given {
        let wrong = |why: String| Failure::usage(format!("{flag} {text}: {why}."));
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("KEY=VALUE is wanted".into()))?;
        let key = named(name)
            .ok_or_else(|| wrong(format!("there is no setting {name:?}; `chatnap config show` lists them")))?;
        if matches!(key.facts().applies, Applies::AtStart) || key.facts().section == "interface" {
            return Err(wrong("this setting changes no answer".into()));
        }
        (key.set)(settings, value).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::settings::{Folders, Sources, resolve};

    fn resolved() -> Resolved {
        let sources =
            Sources { folders: Folders::default(), config: None, environment: &|_| None, flags: Vec::new(), log: None };
        resolve(&sources).unwrap()
    }

    fn args(models: &[&str], a: &[&str], b: &[&str]) -> CompareArgs {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        CompareArgs { models: own(models), a: own(a), b: own(b), ..CompareArgs::default() }
    }

    #[test]
    fn sides_share_the_seed_and_what_is_not_theirs() {
        let [a, b] = both(&resolved(), &args(&["x"], &["temperature=0"], &["temperature=1", "seed=7"])).unwrap();
        assert_eq!((a.title().as_str(), b.title().as_str()), ("A: x, temperature=0", "B: x, temperature=1, seed=7"));
        assert_eq!((a.settings.sampling.temperature, b.settings.sampling.temperature), (Some(0.0), Some(1.0)));
        assert_eq!(b.settings.sampling.seed, Some(7));
        let [a, b] = both(&resolved(), &args(&["x", "y"], &[], &[])).unwrap();
        assert_eq!((a.settings.model.as_str(), b.settings.model.as_str()), ("x", "y"));
        assert!(a.settings.sampling.seed.is_some() && a.settings.sampling.seed == b.settings.sampling.seed);
    }

    #[test]
    fn errors_name_the_flag() {
        let error = |args: &CompareArgs| both(&resolved(), args).map(drop).unwrap_err().message;
        assert!(error(&args(&["x"], &[], &[])).contains("nothing to compare"));
        assert!(error(&args(&["x", "y", "z"], &[], &[])).contains("two models"));
        assert_eq!(error(&args(&["x"], &["hot"], &[])), "--a hot: KEY=VALUE is wanted.");
        assert!(error(&args(&["x"], &[], &["temperature=hot"])).starts_with("--b temperature=hot: a number is wanted"));
        assert!(error(&args(&["x"], &[], &["theme=dark"])).contains("changes no answer"));
        assert!(error(&args(&["x"], &[], &["tmp=1"])).contains("no setting \"tmp\""));
    }
}
