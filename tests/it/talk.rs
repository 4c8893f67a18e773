//! An engine with the real starter model on the CPU, asked step by step.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chatnap::engine::Engine;
use chatnap::hub::HubSource;
use chatnap::protocol::*;
use chatnap::settings::Settings;

use crate::support;

pub struct Talk {
    pub engine: Engine,
    events: Receiver<(Instant, EngineEvent)>,
}

/// A whole answer.
pub struct Answered {
    pub text: String,
    pub reason: FinishReason,
    pub usage: Usage,
    pub timing: Timing,
    pub trace: Arc<Trace>,
    /// When the request was sent, and when each token arrived.
    pub asked: Instant,
    pub tokens: Vec<Instant>,
}

impl Talk {
    pub fn new() -> Self {
        support::starter_model();
        let settings = Settings { context_length: Some(2048), ..support::settings("smollm2-135m") };
        let options = HubSource::new(&settings).unwrap().engine_options(&settings, IdleWindow::Never).unwrap();
        let (sender, events) = channel();
        let engine = Engine::start(options, move |event| drop(sender.send((Instant::now(), event)))).unwrap();
        Self { engine, events }
    }

    pub fn ask(&self, messages: &[ChatMessage], sampling: SamplingParams, max_tokens: usize) -> Answered {
        self.answer(GenerationRequest {
            sampling: sampling.into(),
            max_tokens: Some(max_tokens),
            ..GenerationRequest::new(self.engine.next_id(), messages.to_vec())
        })
    }

    pub fn answer(&self, request: GenerationRequest) -> Answered {
        let asked = Instant::now();
        self.engine.generate(request);
        let (mut text, mut tokens, mut traced) = (String::new(), Vec::new(), None);
        loop {
            match self.events.recv_timeout(Duration::from_secs(300)).unwrap() {
                (at, EngineEvent::Token { text: piece, .. }) => {
                    text.push_str(&piece);
                    tokens.push(at);
                }
                (_, EngineEvent::Traced { trace, .. }) => traced = Some(trace),
                (_, EngineEvent::Finished { reason, usage, timing, .. }) => {
                    return Answered { text, reason, usage, timing, trace: traced.unwrap(), asked, tokens };
                }
                (_, EngineEvent::Failed { error, .. } | EngineEvent::LoadFailed { error }) => panic!("{error}"),
                _ => {}
            }
        }
    }
}
