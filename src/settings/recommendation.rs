//! The values of settings that the user left to the model: its own recommendation, else the built-in default.

use super::{Folders, Key, Origin, Settings};
use crate::protocol::{Recommended, SamplingChoice, SamplingParams};

/// What is known of a model's recommendation.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// The recommended values, by source.
    pub values: Recommended,
    /// Whether the model's files were read; else they may recommend more.
    pub complete: bool,
}

impl Recommendation {
    /// The value of `key` where the user set none, and where it comes from; `None` if a model has no say in it.
    pub fn of(&self, key: &Key) -> Option<(String, Origin)> {
        let of =
            |sampling: SamplingChoice| (key.get)(&Settings { sampling, ..Settings::defaults(&Folders::default()) });
        if of(SamplingChoice::default()).is_some() {
            return None;
        }
        let recommended = self
            .values
            .0
            .iter()
            .find_map(|(source, choice)| of(choice.clone()).map(|value| (value, Origin::Recommended(*source))));
        recommended.or_else(|| {
            let origin = if self.complete { Origin::Default } else { Origin::Unknown };
            of(SamplingParams::default().into()).map(|value| (value, origin))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::SamplingSource;
    use crate::settings::named;

    #[test]
    fn a_value_is_shown_with_the_source_that_decides_about_it() {
        let choice = SamplingChoice { temperature: Some(0.2), top_p: Some(0.9), ..SamplingChoice::default() };
        let mut values = Recommended::from(SamplingSource::Gguf, choice);
        let listed = SamplingChoice { top_k: Some(20), top_p: Some(0.5), ..SamplingChoice::default() };
        values.add(SamplingSource::Catalogue, listed);
        let known = Recommendation { values, complete: true };
        let of = |key: &str| known.of(named(key).unwrap()).map(|(value, origin)| format!("{value}, {origin}"));
        assert_eq!(of("temperature").as_deref(), Some("0.2, the model (GGUF)"));
        assert_eq!(of("top_p").as_deref(), Some("0.9, the model (GGUF)"));
        assert_eq!(of("top_k").as_deref(), Some("20, catalogue"));
        assert_eq!(of("min_p").as_deref(), Some("0.05, default"));
        for key in ["seed", "system", "think", "theme", "max_tokens"] {
            assert_eq!(of(key), None, "{key}");
        }
        let unread = Recommendation { complete: false, ..known };
        let min_p = unread.of(named("min_p").unwrap()).unwrap();
        assert_eq!(min_p.1.to_string(), "default, unless the model has its own");
    }
}
