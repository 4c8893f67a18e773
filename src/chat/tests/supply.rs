//! Model files: consent to a download, and changes of model that keep the working one.

use super::*;

fn missing() -> Located {
    Located::Missing(Offer { size: Some((98_000_000, true)), from: "hub.example".into(), warning: None })
}

fn located(story: &mut Story, model: &str, found: Located) -> Vec<Effect> {
    story.event(Event::Located { model: model.into(), found })
}

fn fetched(story: &mut Story, model: &str, result: Result<(), EngineError>) -> Vec<Effect> {
    story.event(Event::Fetched { model: model.into(), result })
}

fn gone(message: &str) -> EngineError {
    EngineError::new(ErrorKind::ModelNotFound, message)
}

impl Story {
    fn loaded(&mut self) {
        let at = self.now();
        self.engine(EngineEvent::Loading { at });
        self.engine(EngineEvent::Loaded { info: info(), took: Duration::ZERO, at });
        self.engine(EngineEvent::Idle { release_at: None, at });
    }

    fn fail_to_load(&mut self, message: &str) -> Vec<Effect> {
        self.engine(EngineEvent::LoadFailed { error: EngineError::new(ErrorKind::OutOfMemory, message) })
    }
}

#[test]
fn the_first_key_waits_for_the_look_at_the_disk() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    assert_eq!(story.event(Event::Typed), []);
    assert_eq!(located(&mut story, "tiny", Located::Here), [Effect::Load]);
}

#[test]
fn nothing_is_fetched_before_the_user_agrees() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    assert_eq!(located(&mut story, "tiny", missing()), []);
    for event in [Event::Typed, Event::Submit("/load".into())] {
        assert_eq!(story.event(event), []);
    }
    assert_eq!(story.chat.offer().map(|(model, _)| model), Some("tiny"));
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("tiny".into())]);
    assert_eq!(story.event(Event::AcceptOffer), [], "one download at a time");
    assert_eq!(fetched(&mut story, "tiny", Ok(())), [Effect::Locate("tiny".into())]);
    assert_eq!(located(&mut story, "tiny", Located::Here), [Effect::Load]);
}

#[test]
fn prompts_sent_before_the_download_wait_for_it() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    located(&mut story, "tiny", missing());
    let [Effect::Save(record)] = &story.submit("Hello?")[..] else { panic!() };
    assert_eq!(story.event(Event::Saved { turn: record.id, result: Ok(()) }), [], "no request without the files");
    assert_eq!(story.chat.next_wake(), None, "waiting for consent costs nothing");
    story.submit("And then?");
    story.event(Event::AcceptOffer);
    fetched(&mut story, "tiny", Ok(()));
    let effects = located(&mut story, "tiny", Located::Here);
    assert!(matches!(&effects[..], [Effect::Generate(_)]), "{effects:?}");
    assert_eq!(story.chat.queue, ["And then?"]);
}

#[test]
fn escape_stops_the_download_and_the_prompt_that_waits_for_it() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    located(&mut story, "tiny", missing());
    story.event(Event::AcceptOffer);
    assert_eq!(story.event(Event::StopOrEdit), [Effect::StopFetch]);
    assert!(
        matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("is kept")),
        "{:?}",
        story.chat.hint()
    );
    assert!(story.chat.offer().is_some(), "the offer is open again");
    story.event(Event::AcceptOffer);
    let [Effect::Save(record)] = &story.submit("Hello?")[..] else { panic!() };
    story.event(Event::Saved { turn: record.id, result: Ok(()) });
    assert_eq!(story.event(Event::Stop)[0], Effect::StopFetch);
    assert!(!story.chat.activity.is_busy());
}

#[test]
fn a_failed_download_fails_the_prompt_that_waits_for_it() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    located(&mut story, "tiny", missing());
    let [Effect::Save(record)] = &story.submit("Hello?")[..] else { panic!() };
    story.event(Event::Saved { turn: record.id, result: Ok(()) });
    story.event(Event::AcceptOffer);
    fetched(&mut story, "tiny", Err(gone("no route")));
    assert_eq!(story.answer(0).ending, Ending::Failed { message: "no route".into() });
    assert!(story.chat.offer().is_some());
}

#[test]
fn chatting_goes_on_during_the_download_of_another_model() {
    let mut story = Story::begin();
    story.loaded();
    assert_eq!(story.submit("/model big"), [Effect::Locate("big".into())]);
    located(&mut story, "big", missing());
    assert_eq!(story.chat.offer().map(|(model, _)| model), Some("big"));
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("big".into())]);
    let id = story.ask("Are you there?").id;
    assert_eq!(fetched(&mut story, "big", Ok(())), [Effect::Locate("big".into())]);
    assert_eq!(located(&mut story, "big", Located::Here), [], "the answer goes on");
    story.submit("For the new one");
    let effects = story.finish(id, FinishReason::Stop);
    assert_eq!(effects.last(), Some(&Effect::SwitchModel("big".into())), "{effects:?}");
    assert_eq!(story.chat.conversation.turn(TurnId(0)).unwrap().model, "tiny");
    let effects = story.event(Event::Switched { model: "big".into() });
    assert!(matches!(&effects[..], [Effect::Load, Effect::Save(_)]), "{effects:?}");
    assert_eq!(story.chat.conversation.turn(TurnId(1)).unwrap().model, "big");
}

#[test]
fn escape_and_cancel_give_up_the_change_and_keep_the_model() {
    for cancel in [Event::StopOrEdit, Event::Submit("/model cancel".into())] {
        let mut story = Story::begin();
        story.loaded();
        story.submit("/model big");
        located(&mut story, "big", missing());
        assert_eq!(story.event(cancel.clone()), [], "an offer needs no effect");
        assert_eq!(story.chat.supply.change, None);
        story.submit("/model big");
        located(&mut story, "big", missing());
        story.event(Event::AcceptOffer);
        assert_eq!(story.event(cancel), [Effect::StopFetch]);
        assert_eq!(fetched(&mut story, "big", Ok(())), [], "too late");
        assert!(story.chat.engine.is_loaded());
    }
    let mut story = Story::begin();
    assert_eq!(story.submit("/model cancel"), []);
    assert!(matches!(story.chat.hint(), Some(Hint::Message(text)) if text.contains("nothing")));
}

#[test]
fn a_model_that_cannot_be_used_leaves_the_old_one_loaded() {
    let mut story = Story::begin();
    story.loaded();
    story.submit("/model big");
    assert_eq!(located(&mut story, "big", Located::Refused("It is too large.".into())), []);
    assert_eq!(story.notes().last(), Some(&"The model stays tiny. It is too large."));
    story.submit("/model big");
    located(&mut story, "big", missing());
    story.event(Event::AcceptOffer);
    assert_eq!(fetched(&mut story, "big", Err(gone("The disk is full."))), []);
    assert_eq!(story.notes().last(), Some(&"The model stays tiny. The disk is full."));
    assert!(story.chat.engine.is_loaded() && story.chat.options.model == "tiny");
}

#[test]
fn a_model_that_fails_to_load_brings_the_old_one_back() {
    let mut story = Story::begin();
    story.loaded();
    story.submit("/model big");
    located(&mut story, "big", Located::Here);
    assert_eq!(story.event(Event::Switched { model: "big".into() }), [Effect::Load]);
    assert_eq!(story.fail_to_load("It needs 40 GB."), [Effect::SwitchModel("tiny".into())]);
    let note = *story.notes().last().unwrap();
    assert!(note.contains("big could not be loaded, so the model stays tiny"), "{note}");
    assert_eq!(note.matches("40 GB").count(), 1, "{note}");
    assert_eq!(story.event(Event::Switched { model: "tiny".into() }), [Effect::Load]);
    assert_eq!(story.fail_to_load("The disk is gone."), [], "there is no further model to go back to");
}

#[test]
fn files_that_vanish_are_offered_again() {
    let mut story = Story::begin();
    story.event(Event::Checking);
    located(&mut story, "tiny", Located::Here);
    assert_eq!(story.engine(EngineEvent::LoadFailed { error: gone("not here") }), [Effect::Locate("tiny".into())]);
    located(&mut story, "tiny", missing());
    assert!(story.chat.offer().is_some());
}

/// The start with `auto`, which stands for `tiny`, and the advice to take `big`.
fn first_run(own: Located) -> Story {
    let mut story = Story::begin();
    story.chat.options.model = "auto".into();
    story.event(Event::Checking);
    let effects = located(&mut story, "auto", Located::Automatic("tiny".into()));
    assert_eq!(effects, [Effect::UseModel("tiny".into())]);
    assert_eq!((story.chat.options.model.as_str(), story.chat.engine.model.as_str()), ("tiny", "tiny"));
    located(&mut story, "tiny", own);
    let offer = Offer { size: Some((9_000_000_000, true)), from: "hub.example".into(), warning: None };
    let recommended = Some(RecommendedModel { model: "big".into(), licence: "Apache-2.0".into(), offer });
    let advice = Advice { machine: "a GPU".into(), on_disk: String::new(), recommended };
    assert_eq!(story.event(Event::Advised(Box::new(advice))), []);
    story
}

#[test]
fn one_key_fetches_the_starter_and_then_what_is_recommended_while_the_chat_goes_on() {
    let mut story = first_run(missing());
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("tiny".into())]);
    let effects = fetched(&mut story, "tiny", Ok(()));
    assert_eq!(effects, [Effect::Locate("tiny".into()), Effect::Fetch("big".into())]);
    assert_eq!(located(&mut story, "tiny", Located::Here), [Effect::Load]);
    story.loaded();
    let effects = story.submit("Hello?");
    assert!(matches!(&effects[..], [Effect::Save(_)]), "the starter answers meanwhile: {effects:?}");
    assert_eq!(fetched(&mut story, "big", Ok(())), [Effect::Locate("big".into())]);
}

#[test]
fn escape_during_the_starters_download_gives_up_the_one_that_follows() {
    let mut story = first_run(missing());
    story.event(Event::AcceptOffer);
    assert_eq!(story.event(Event::Stop), [Effect::StopFetch]);
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("tiny".into())]);
    assert_eq!(fetched(&mut story, "tiny", Ok(())), [Effect::Locate("tiny".into())]);
}

#[test]
fn the_recommended_model_is_offered_on_the_start_screen_alone() {
    let mut story = first_run(Located::Here);
    assert_eq!(story.chat.offer().map(|(model, _)| model), Some("big"));
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("big".into())]);
    let mut story = first_run(Located::Here);
    story.submit("Hello?");
    assert_eq!(story.chat.offer(), None);
    let mut story = first_run(missing());
    story.submit("Hello?");
    assert_eq!(story.event(Event::AcceptOffer), [Effect::Fetch("tiny".into())]);
    assert_eq!(fetched(&mut story, "tiny", Ok(())), [Effect::Locate("tiny".into())], "only what the line offers");
}

#[test]
fn auto_is_looked_up_as_any_other_model() {
    let mut story = Story::begin();
    assert_eq!(story.submit("/model auto"), [Effect::Locate("auto".into())]);
    let effects = located(&mut story, "auto", Located::Automatic("big".into()));
    assert_eq!(effects, [Effect::Locate("big".into())]);
    assert_eq!(located(&mut story, "big", Located::Here), [Effect::SwitchModel("big".into())]);
    let mut story = Story::begin();
    story.submit("/model auto");
    let own = story.chat.options.model.clone();
    assert_eq!(located(&mut story, "auto", Located::Automatic(own)), []);
    assert_eq!(story.chat.supply.change, None);
}
