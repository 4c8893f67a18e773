//! Splits the time to the first token into phases, from the times of the engine's events.

use std::time::{Duration, Instant};

use super::data::{Phase, PhaseName, ms};

/// When the events of one request came.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    begun: Instant,
    /// The begin of each phase of the load, in order.
    phases: Vec<(PhaseName, Instant)>,
    /// The last progress of the load.
    last_step: Option<Instant>,
    loaded: Option<Instant>,
    first_token: Option<Instant>,
    /// Where the weights came from: `from the page cache`.
    pub origin: Option<String>,
}

impl Marks {
    /// Of a request that was submitted at `begun`.
    pub fn new(begun: Instant) -> Self {
        Self { begun, phases: Vec::new(), last_step: None, loaded: None, first_token: None, origin: None }
    }

    /// Notes a progress of the load.
    pub fn load(&mut self, at: Instant, phase: PhaseName, detail: Option<&str>) {
        if self.phases.last().is_none_or(|(last, _)| *last != phase) {
            self.phases.push((phase, at));
        }
        if matches!(phase, PhaseName::Read | PhaseName::Upload) {
            self.origin = detail.map(str::to_owned).or(self.origin.take());
        }
        self.last_step = Some(at);
    }

    /// Notes the end of the load.
    pub fn loaded(&mut self, at: Instant) {
        self.loaded = Some(at);
    }

    /// Notes a token; only the first one counts.
    pub fn token(&mut self, at: Instant) {
        self.first_token.get_or_insert(at);
    }

    /// From the submit to the first token.
    pub fn first_token(&self) -> Option<Duration> {
        Some(self.first_token? - self.begun)
    }

    /// The parts of the time to the first token, whose sum it is; `prefill` is the engine's own figure. Empty without a
    /// token.
    pub fn phases(&self, prefill: Duration) -> Vec<Phase> {
        let Some(token) = self.first_token else { return Vec::new() };
        let mut phases = Vec::new();
        let mut at = self.begun;
        let mut until = |name, end: Instant| {
            let span = end.saturating_duration_since(at);
            at = at.max(end);
            if span > Duration::ZERO {
                phases.push(Phase { name, ms: ms(span) });
            }
        };
        if let Some(loaded) = self.loaded {
            until(PhaseName::Open, self.phases.first().map_or(loaded, |(_, begin)| *begin));
            for (index, (name, _)) in self.phases.iter().enumerate() {
                let next = self.phases.get(index + 1).map(|(_, begin)| *begin);
                until(*name, next.or(self.last_step).unwrap_or(loaded));
            }
            until(PhaseName::Prepare, loaded);
        }
        let prefill_end = (at + prefill).min(token);
        let mut until = |name, end: Instant| {
            let span = end.saturating_duration_since(at);
            at = at.max(end);
            phases.push(Phase { name, ms: ms(span) });
        };
        until(PhaseName::Prefill, prefill_end);
        until(PhaseName::FirstToken, token);
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_add_up_to_the_first_token() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut marks = Marks::new(begun);
        marks.load(at(20), PhaseName::Read, None);
        marks.load(at(50), PhaseName::Read, Some("from the page cache"));
        marks.load(at(60), PhaseName::Upload, None);
        marks.load(at(90), PhaseName::Upload, None);
        marks.loaded(at(100));
        marks.token(at(150));
        marks.token(at(170));
        let phases = marks.phases(Duration::from_millis(40));
        let found: Vec<_> = phases.iter().map(|phase| (phase.name, phase.ms)).collect();
        assert_eq!(
            found,
            [
                (PhaseName::Open, 20.0),
                (PhaseName::Read, 40.0),
                (PhaseName::Upload, 30.0),
                (PhaseName::Prepare, 10.0),
                (PhaseName::Prefill, 40.0),
                (PhaseName::FirstToken, 10.0),
            ]
        );
        assert_eq!(marks.first_token(), Some(Duration::from_millis(150)));
        assert_eq!(found.iter().map(|(_, ms)| ms).sum::<f64>(), 150.0);
        assert_eq!(marks.origin.as_deref(), Some("from the page cache"));
    }

    #[test]
    fn a_warm_answer_has_no_load_and_a_request_without_token_no_phases() {
        let begun = Instant::now();
        let mut marks = Marks::new(begun);
        assert!(marks.phases(Duration::ZERO).is_empty() && marks.first_token().is_none());
        marks.token(begun + Duration::from_millis(30));
        let names: Vec<_> =
            marks.phases(Duration::from_millis(50)).iter().map(|phase| (phase.name, phase.ms)).collect();
        assert_eq!(names, [(PhaseName::Prefill, 30.0), (PhaseName::FirstToken, 0.0)]);
    }
}
