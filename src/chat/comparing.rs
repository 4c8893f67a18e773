//! `/compare MODEL`: the last question again, for another model. The answer is another branch of the same turn; then the first
//! model is used again.

use std::time::Duration;

use crate::conversation::{Ending, TurnId};
use crate::protocol::{FinishReason, Timing, Usage};
use crate::stats::AnswerStats;
use crate::wording::short_name;

use super::{Chat, Effect, Hint, NoteKind};

/// A comparison in progress.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparing {
    /// The model to go back to.
    back: String,
    /// Whether it was in memory.
    loaded: bool,
    /// The first answer, once the other model is asked.
    first: Option<TurnId>,
    /// The seed of the first answer, if it is known.
    seed: Option<u64>,
}

impl Chat {
    /// Changes to `model`, to ask it the last question.
    pub(super) fn compare(&mut self, model: Option<String>) -> Vec<Effect> {
        let Some(head) = self.numbered(None) else { return Vec::new() };
        let told = match &model {
            None => Some("/compare needs the name of the other model; /model lists them"),
            Some(model) if *model == self.options.model => Some("this model is in use: name another one"),
            Some(_) if self.conversation.turn(head).is_none_or(|turn| turn.answer.is_empty()) => {
                Some("there is no answer to compare with: /retry asks again")
            }
            Some(_) => None,
        };
        let (None, Some(model)) = (told, model) else {
            self.show_hint(Hint::Message(told.unwrap_or_default().into()));
            return Vec::new();
        };
        let effects = self.change_model(model);
        let (back, loaded) = (self.options.model.clone(), self.engine.is_loaded());
        self.comparing = Some(Comparing { back, loaded, first: None, seed: None });
        effects
    }

    /// Whether the change of model that is under way is for a comparison.
    pub(super) fn is_changing_to_compare(&self) -> bool {
        self.comparing.as_ref().is_some_and(|comparing| comparing.first.is_none())
    }

    /// Whether the other model is asked.
    pub(super) fn is_comparing(&self) -> bool {
        self.comparing.as_ref().is_some_and(|comparing| comparing.first.is_some())
    }

    /// The seed of the first answer, while the other model is asked.
    pub(super) fn compared_seed(&self) -> Option<u64> {
        self.comparing.as_ref().filter(|_| self.is_comparing())?.seed
    }

    /// The other model is used now: asks it the last question.
    pub(super) fn ask_other(&mut self) -> Vec<Effect> {
        let Some(first) = self.conversation.head() else {
            self.comparing = None;
            return Vec::new();
        };
        let seed = self.asked.as_ref().filter(|(asked, _)| *asked == first).and_then(|(_, sampling)| sampling.seed);
        if let Some(comparing) = &mut self.comparing {
            (comparing.first, comparing.seed) = (Some(first), seed);
        }
        self.ask_again(first)
    }

    /// The other answer has ended: shows the figures of both, and goes back to the first model, unless another one was
    /// chosen meanwhile.
    pub(super) fn end_comparison(&mut self, other: TurnId, changes: bool) -> Vec<Effect> {
        let Some(Comparing { back, loaded, first: Some(first), .. }) = self.comparing.take() else { return Vec::new() };
        let text = self.beside(first, other);
        self.note(NoteKind::Info, text);
        if changes || back == self.options.model {
            return Vec::new();
        }
        self.supply.returning = Some(loaded);
        vec![Effect::SwitchModel(back)]
    }

    /// The figures of two answers, a line each.
    fn beside(&self, first: TurnId, other: TurnId) -> String {
        let name = |id| self.conversation.turn(id).map(|turn| short_name(&turn.model)).unwrap_or_default();
        let mut lines =
            vec![format!("{} | {}, which is shown; /branch shows the other answer", name(first), name(other))];
        match (self.figures(first), self.figures(other)) {
            (Some(a), Some(b)) => lines.extend(compared(&a, &b)),
            _ => lines.push("There are no figures to compare: one of the answers was not finished.".into()),
        }
        lines.join("\n")
    }

    fn figures(&self, id: TurnId) -> Option<(Usage, Timing)> {
        match &self.conversation.turn(id)?.answer.ending {
            Ending::Finished { reason, usage, timing: Some(timing) } if *reason != FinishReason::Cancelled => {
                Some((*usage, timing.clone()))
            }
            _ => None,
        }
    }

    /// The change of model comes to nothing, or is for another purpose. A question that was asked goes on.
    pub(super) fn forget_comparison(&mut self) {
        if self.is_changing_to_compare() {
            self.comparing = None;
        }
    }
}

/// `time to first token: 80.0 ms | 120.0 ms (× 1.50)` and so on.
fn compared(a: &(Usage, Timing), b: &(Usage, Timing)) -> Vec<String> {
    let (of_a, of_b) = (AnswerStats::new(&a.0, &a.1), AnswerStats::new(&b.0, &b.1));
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let work = |timing: &Timing| Some(ms(timing.total.saturating_sub(timing.load)));
    let tokens = |usage: &Usage| usage.known()[2].map(|tokens| tokens as f64);
    let time = |value: f64| if value >= 1000.0 { format!("{:.2} s", value / 1000.0) } else { format!("{value:.1} ms") };
    [
        line("time to first token", of_a.ttft.map(ms), of_b.ttft.map(ms), time),
        line("tokens per second", of_a.tokens_per_second, of_b.tokens_per_second, |value| format!("{value:.1}")),
        line("tokens of the answer", tokens(&a.0), tokens(&b.0), |value| format!("{value:.0}")),
        line("time without the load", work(&a.1), work(&b.1), time),
    ]
    .into()
}

fn line(name: &str, a: Option<f64>, b: Option<f64>, show: impl Fn(f64) -> String) -> String {
    let shown = |value: Option<f64>| value.map_or("-".into(), &show);
    let ratio = a.zip(b).filter(|(a, _)| *a > 0.0).map(|(a, b)| format!(" (× {:.2})", b / a)).unwrap_or_default();
    format!("{name}: {} | {}{ratio}", shown(a), shown(b))
}
