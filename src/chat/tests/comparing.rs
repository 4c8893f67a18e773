//! `/compare`: the other model answers on a branch of its own, and the first one comes back, whatever happens.

use super::*;

const TIMING: [u64; 2] = [100, 250];

impl Story {
    /// An answer with this time to the first token.
    fn answered(&mut self, id: RequestId, ttft: u64) -> Vec<Effect> {
        self.stream(id, &["Yes", "."]);
        let usage = Usage { prompt_tokens: 30, cached_tokens: 0, completion_tokens: 2, ..Usage::default() };
        let timing = Timing {
            load: Duration::from_millis(500),
            ttft: Duration::from_millis(ttft),
            decode: Duration::from_millis(20),
            total: Duration::from_millis(ttft + 520),
            ..Timing::default()
        };
        let (at, reason) = (self.now(), FinishReason::Stop);
        self.engine(EngineEvent::Finished { id, reason, usage, timing, at })
    }

    /// One answered question, and the change to `big` that a comparison needs; returns the saved turn of the other answer and the seed of the
    /// first.
    fn compare(&mut self) -> (TurnId, Option<u64>) {
        self.chat.seed_from(5);
        let request = self.ask("Is it?");
        self.answered(request.id, TIMING[0]);
        assert_eq!(self.submit("/compare big"), [Effect::Locate("big".into())]);
        let found = Event::Located { model: "big".into(), found: Located::Here };
        assert_eq!(self.event(found), [Effect::SwitchModel("big".into())]);
        let saved = self.event(Event::Switched { model: "big".into() });
        let [Effect::Save(record)] = &saved[..] else { panic!("{saved:?}") };
        (record.id, request.sampling.seed)
    }
}

#[test]
fn the_other_model_is_asked_the_same_with_the_same_seed_and_the_first_one_comes_back() {
    let mut story = Story::begin();
    let (other, seed) = story.compare();
    let request = story.stored(other);
    assert_eq!(request.messages, [ChatMessage::new(Role::User, "Is it?")]);
    assert!(request.sampling.seed.is_some() && request.sampling.seed == seed);
    let turns = story.chat.conversation.turns();
    assert_eq!((turns[0].parent, turns[1].parent), (None, None), "versions of the same turn");
    assert_eq!((turns[0].model.as_str(), turns[1].model.as_str()), ("tiny", "big"));

    let effects = story.answered(request.id, TIMING[1]);
    assert_eq!(effects.last(), Some(&Effect::SwitchModel("tiny".into())), "{effects:?}");
    let note = story.notes().last().copied().unwrap().to_owned();
    assert!(note.starts_with("tiny | big, which is shown"), "{note}");
    assert!(note.contains("time to first token: 100.0 ms | 250.0 ms (× 2.50)"), "{note}");
    assert!(note.contains("time without the load: 120.0 ms | 270.0 ms (× 2.25)"), "{note}");

    story.event(Event::Switched { model: "tiny".into() });
    assert_eq!(story.chat.options.model, "tiny");
    assert_eq!(story.notes().last().copied(), Some(note.as_str()), "no note about the way back");
    assert_ne!(story.chat.sampling_of(99).seed, seed, "later requests have seeds of their own");
}

#[test]
fn prompts_that_were_queued_meanwhile_are_for_the_first_model() {
    let mut story = Story::begin();
    let (other, _) = story.compare();
    let request = story.stored(other);
    story.submit("And now?");
    let effects = story.answered(request.id, TIMING[1]);
    assert_eq!(effects.last(), Some(&Effect::SwitchModel("tiny".into())));
    assert_eq!(story.chat.queue, ["And now?"]);
    let effects = story.event(Event::Switched { model: "tiny".into() });
    let [Effect::Save(record)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.turn.prompt.as_str(), record.turn.model.as_str()), ("And now?", "tiny"));
}

#[test]
fn a_stopped_answer_goes_back_too_without_figures() {
    let mut story = Story::begin();
    let (other, _) = story.compare();
    let request = story.stored(other);
    assert_eq!(story.event(Event::Stop), [Effect::Cancel(request.id)]);
    let effects = story.finish(request.id, FinishReason::Cancelled);
    assert!(effects.contains(&Effect::SwitchModel("tiny".into())), "{effects:?}");
    assert!(story.notes().last().unwrap().contains("no figures to compare"));
}

#[test]
fn a_model_that_cannot_be_had_or_loaded_leaves_everything_as_it_was() {
    let mut story = Story::begin();
    let request = story.ask("Is it?");
    story.answered(request.id, TIMING[0]);
    story.submit("/compare big");
    story.event(Event::Located { model: "big".into(), found: Located::Refused("It is too large.".into()) });
    assert!(story.chat.comparing.is_none());
    assert_eq!((story.chat.options.model.as_str(), story.chat.conversation.turns().len()), ("tiny", 1));

    let mut story = Story::begin();
    let (other, _) = story.compare();
    let request = story.stored(other);
    let error = EngineError::new(ErrorKind::OutOfMemory, "no room");
    let effects = story.engine(EngineEvent::LoadFailed { error: error.clone() });
    assert_eq!(effects, [Effect::SwitchModel("tiny".into())]);
    let at = story.now();
    let effects = story.engine(EngineEvent::Failed { id: request.id, error, at });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SwitchModel(_))), "once: {effects:?}");
}

#[test]
fn compare_needs_an_answer_and_another_model() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/compare big"), []);
    assert!(story.message().contains("nothing was asked yet"), "{}", story.message());
    let request = story.ask("Is it?");
    assert_eq!(story.submit("/compare big"), [], "not while an answer is written");
    story.answered(request.id, TIMING[0]);
    for (text, part) in [("/compare", "needs the name"), ("/compare tiny", "in use")] {
        assert_eq!(story.submit(text), []);
        assert!(story.message().contains(part), "{}", story.message());
    }
}

#[test]
fn another_change_of_model_ends_the_comparison() {
    let mut story = Story::begin();
    let request = story.ask("Is it?");
    story.answered(request.id, TIMING[0]);
    story.submit("/compare big");
    story.submit("/model small");
    story.event(Event::Located { model: "small".into(), found: Located::Here });
    assert_eq!(story.event(Event::Switched { model: "small".into() }), []);
    assert_eq!(story.chat.conversation.turns().len(), 1, "a plain change asks nothing");
}
