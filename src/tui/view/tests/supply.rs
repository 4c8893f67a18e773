//! Models that are not on disk: the offer, the download beside the chat, and which model answered.

use super::*;
use crate::chat::{Advice, Located, RecommendedModel};

fn offer() -> Located {
    Located::Missing(Offer { size: Some((98_362_432, true)), from: "huggingface.co".into(), warning: None })
}

impl App {
    fn located(&mut self, model: &str, found: Located) -> &mut Self {
        self.event(Event::Located { model: model.into(), found })
    }

    fn fetching(&mut self, model: &str, done: u64, total: u64) -> &mut Self {
        let progress = LoadProgress { phase: LoadPhase::Download, done, total: Some(total), detail: None };
        self.event(Event::FetchProgress { model: model.into(), progress })
    }

    /// Sends `/model` with the name and accepts the offer.
    fn change_to(&mut self, model: &str) -> &mut Self {
        self.event(Event::Submit(format!("/model {model}"))).located(model, offer()).key(KeyCode::Enter)
    }
}

#[test]
fn a_model_that_is_not_on_disk_is_offered_by_the_welcome() {
    at_all_sizes!("offer", |app| {
        app.event(Event::Checking).located("smollm2-135m", offer());
    });
    for (width, height) in SIZES {
        let mut app = App::new(width, height);
        app.event(Event::Checking).located("smollm2-135m", offer()).type_text("h").key(KeyCode::Backspace);
        let screen = app.screen();
        assert!(app.effects.is_empty() && (screen.contains("Enter") || width < 40), "{screen}");
        app.key(KeyCode::Enter);
        assert_eq!(app.effects, [Effect::Fetch("smollm2-135m".into())], "Enter in an empty composer is the consent");
    }
}

#[test]
fn a_prompt_before_the_download_is_kept() {
    let mut app = App::new(80, 24);
    app.event(Event::Checking).located("smollm2-135m", offer()).send("Why is the sky blue?");
    let screen = app.screen();
    assert!(screen.contains("kept until the model is here: Enter fetches it"), "{screen}");
    assert!(screen.contains("smollm2-135m is not here: 98.4 MB from huggingface.co · Enter fetches it"), "{screen}");
    app.key(KeyCode::Enter).fetching("smollm2-135m", 42_100_000, 98_362_432);
    let screen = app.screen();
    assert!(screen.contains("waiting for the download") && screen.contains("download smollm2-135m"), "{screen}");
}

#[test]
fn another_model_is_fetched_while_the_chat_goes_on() {
    at_all_sizes!("fetch", |app| {
        app.turn("Why is the sky blue?", "Because of the air.").change_to("gemma-3-4b");
        app.fetching("gemma-3-4b", 0, 2_489_757_856).after(1000).fetching("gemma-3-4b", 82_000_000, 2_489_757_856);
        app.send("And at night?").stream("There is no light to scatter");
    });
    let mut app = App::new(80, 24);
    app.turn("Hi", "Hello.").event(Event::Submit("/model gemma-3-4b".into())).located("gemma-3-4b", offer());
    let screen = app.screen();
    assert!(screen.contains("gemma-3-4b is not here: 98.4 MB from huggingface.co · Enter fetches it"), "{screen}");
    app.resize(120, 24);
    assert!(app.screen().contains("Esc keeps smollm2-135m"), "{}", app.screen());
    app.key(KeyCode::Esc);
    assert!(!app.screen().contains("Enter fetches"), "{}", app.screen());
}

#[test]
fn footers_name_the_model_when_it_changes() {
    let mut app = App::new(80, 24);
    app.turn("One", "1").turn("Two", "2");
    assert!(!app.screen().contains("smollm2-135m · TTFT"), "{}", app.screen());
    app.event(Event::Switched { model: "gemma-3-4b".into() }).turn("Three", "3").turn("Four", "4");
    let screen = app.screen();
    assert_eq!(screen.matches("gemma-3-4b · TTFT").count(), 1, "{screen}");
}

#[test]
fn the_first_run_names_the_machine_and_recommends_a_model() {
    at_all_sizes!("first_run", |app| {
        let offer = Offer { size: Some((9_001_752_960, true)), from: "huggingface.co".into(), warning: None };
        let recommended = Some(RecommendedModel { model: "qwen3-14b".into(), licence: "Apache-2.0".into(), offer });
        let machine = "NVIDIA GeForce RTX 4070\u{1b}[31m with 12.9 GB, 11.6 GB of it for a model; 33.4 GB of RAM";
        let advice = Advice { machine: machine.into(), on_disk: "2 models of ollama".into(), recommended };
        app.event(Event::Checking).located("smollm2-135m", self::offer());
        app.event(Event::Advised(Box::new(advice)));
    });
}
