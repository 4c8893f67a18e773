//! Plays scenarios and judges their answers.

use super::check::Judged;
use super::data::{CheckResult, ScenarioResult, ScenarioRun, TurnResult, Verdict};
use super::python::Python;
use super::scenario::{Scenario, Turn};
use super::session::{Answered, Ended, Session};
use super::wilson::PassRate;
use super::{Options, Step};
use crate::protocol::{ChatMessage, ErrorKind, Role};

/// How scenarios are played.
pub(super) struct Play<'a> {
    pub options: &'a Options,
    /// `None` without `--run-code`.
    pub python: Option<&'a Python>,
    /// Seed of the first repetition.
    pub seed: Option<u64>,
}

impl Play<'_> {
    /// Plays all scenarios into `results`, which keeps those that were done before an end.
    pub fn all(
        &self,
        session: &mut Session<'_>,
        scenarios: &[Scenario],
        results: &mut Vec<ScenarioResult>,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), Ended> {
        let repeat = self.options.repeat.max(1);
        for (index, scenario) in scenarios.iter().enumerate() {
            let mut runs = Vec::new();
            let mut ended = Ok(());
            for repetition in 0..repeat {
                progress(Step::Begins {
                    name: &scenario.name,
                    place: (index + 1, scenarios.len()),
                    repetition: (repetition + 1, repeat),
                });
                let seed = self.seed.map(|seed| seed.wrapping_add(repetition as u64));
                match self.once(session, scenario, seed, progress) {
                    Ok(run) => {
                        progress(Step::Ends { name: &scenario.name, run: &run });
                        runs.push(run);
                    }
                    Err(end) => {
                        ended = Err(end);
                        break;
                    }
                }
            }
            if !runs.is_empty() {
                results.push(summary(scenario.name.clone(), runs));
            }
            ended?;
        }
        Ok(())
    }

    /// Plays a scenario once. An answer that fails fails the scenario, unless no further answer is possible.
    fn once(
        &self,
        session: &mut Session<'_>,
        scenario: &Scenario,
        seed: Option<u64>,
        progress: &mut dyn FnMut(Step<'_>),
    ) -> Result<ScenarioRun, Ended> {
        let system = scenario.system.iter().map(|text| ChatMessage::new(Role::System, text));
        let mut messages: Vec<_> = system.collect();
        let mut turns = Vec::new();
        for turn in &scenario.turns {
            messages.push(ChatMessage::new(Role::User, &turn.prompt));
            match session.ask(messages.clone(), seed, scenario.max_tokens, progress) {
                Ok(answered) => {
                    messages.push(ChatMessage::new(Role::Assistant, &answered.answer));
                    turns.push(self.judge(turn, answered));
                    if self.options.stop.is_cancelled() {
                        return Err(Ended::Stopped);
                    }
                }
                Err(Ended::Failed(error)) if error.kind != ErrorKind::Fatal && session.info.is_some() => {
                    turns.push(failed(turn, error.message));
                    break;
                }
                Err(ended) => return Err(ended),
            }
        }
        let (verdict, reason) = judgement(&turns);
        Ok(ScenarioRun { seed, verdict, reason, turns })
    }

    fn judge(&self, turn: &Turn, answered: Answered) -> TurnResult {
        let judged = Judged { answer: &answered.answer, finish: answered.reason, cached: answered.usage.known()[1] };
        let mut run = |answer: &str, code: &str| match self.python {
            Some(python) => python.check(answer, code, &self.options.stop),
            None => (Verdict::NotRun, "--run-code runs it".to_owned()),
        };
        let checks = turn.checks.iter().map(|check| check.judge(judged, &mut run)).collect();
        TurnResult {
            prompt: turn.prompt.clone(),
            checks,
            finish_reason: Some(answered.reason),
            error: None,
            figures: Some(answered.figures()),
            answer: answered.answer,
            reasoning: answered.reasoning,
        }
    }
}

fn failed(turn: &Turn, error: String) -> TurnResult {
    TurnResult {
        prompt: turn.prompt.clone(),
        answer: String::new(),
        reasoning: String::new(),
        finish_reason: None,
        error: Some(error),
        checks: Vec::new(),
        figures: None,
    }
}

/// The verdict on the turns of a repetition, and why it is not a pass.
fn judgement(turns: &[TurnResult]) -> (Verdict, String) {
    if let Some(error) = turns.iter().find_map(|turn| turn.error.as_ref()) {
        return (Verdict::Fail, error.clone());
    }
    let of = |verdict| {
        let wanted = turns.iter().flat_map(|turn| &turn.checks).filter(move |check| check.verdict == verdict);
        wanted.map(reason).collect::<Vec<_>>()
    };
    match (of(Verdict::Fail), of(Verdict::NotRun)) {
        (failed, _) if !failed.is_empty() => (Verdict::Fail, failed.join("; ")),
        (_, not_run) if !not_run.is_empty() => (Verdict::NotRun, not_run.join("; ")),
        _ => (Verdict::Pass, String::new()),
    }
}

fn reason(check: &CheckResult) -> String {
    if check.detail.is_empty() { check.check.clone() } else { format!("{}: {}", check.check, check.detail) }
}

/// The verdict over all repetitions: that of the worst one, with its reason.
fn summary(name: String, runs: Vec<ScenarioRun>) -> ScenarioResult {
    let count = |verdict| runs.iter().filter(|run| run.verdict == verdict).count();
    let (passed, failed) = (count(Verdict::Pass), count(Verdict::Fail));
    let verdict = match () {
        () if failed > 0 => Verdict::Fail,
        () if passed == runs.len() => Verdict::Pass,
        () => Verdict::NotRun,
    };
    let reason = runs.iter().find(|run| run.verdict == verdict).map(|run| run.reason.clone()).unwrap_or_default();
    ScenarioResult { name, verdict, reason, pass_rate: PassRate::new(passed, passed + failed), runs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(verdicts: &[Verdict]) -> TurnResult {
        let check = |verdict: &Verdict| CheckResult { check: "c".into(), verdict: *verdict, detail: "why".into() };
        TurnResult {
            prompt: "p".into(),
            answer: "a".into(),
            reasoning: String::new(),
            finish_reason: None,
            error: None,
            checks: verdicts.iter().map(check).collect(),
            figures: None,
        }
    }

    fn run(verdict: Verdict) -> ScenarioRun {
        ScenarioRun { seed: None, verdict, reason: verdict.word().into(), turns: Vec::new() }
    }

    #[test]
    fn one_failed_check_fails_and_one_that_was_not_run_leaves_it_open() {
        use Verdict::{Fail, NotRun, Pass, Shown};
        assert_eq!(judgement(&[turn(&[Pass, Shown]), turn(&[])]), (Pass, String::new()));
        assert_eq!(judgement(&[turn(&[Pass, NotRun])]), (NotRun, "c: why".into()));
        assert_eq!(judgement(&[turn(&[NotRun]), turn(&[Fail, Fail])]), (Fail, "c: why; c: why".into()));
        let broken = TurnResult { error: Some("too long".into()), ..turn(&[]) };
        assert_eq!(judgement(&[turn(&[Pass]), broken]), (Fail, "too long".into()));
    }

    #[test]
    fn repetitions_are_summed_up_by_the_worst_one() {
        use Verdict::{Fail, NotRun, Pass};
        let sum = |verdicts: &[Verdict]| summary("s".into(), verdicts.iter().map(|&verdict| run(verdict)).collect());
        let mixed = sum(&[Pass, Fail, Pass, NotRun]);
        assert_eq!((mixed.verdict, mixed.reason.as_str()), (Fail, "FAIL"));
        assert_eq!(mixed.pass_rate.map(|rate| (rate.passed, rate.judged)), Some((2, 3)));
        assert_eq!(sum(&[Pass, Pass]).verdict, Pass);
        assert_eq!((sum(&[Pass, NotRun]).verdict, sum(&[NotRun]).pass_rate), (NotRun, None));
    }
}
