//! A session with one server: wakes it, asks which model it has, sends each prompt once, and reads the answer. Runs on the
//! device thread, as a loaded model does.

use std::borrow::Cow;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::address::Address;
use super::client::Client;
use super::models::{self, Listing};
use super::patience::{self, Patience, Trouble, Verdict};
use super::request::{self, Known};
use super::{key, problem, reading};
use crate::clock::Timestamp;
use crate::engine::generation::{self, Job};
use crate::engine::lifecycle::ModelHealth;
use crate::engine::source::CancelFlag;
use crate::protocol::*;

/// Interval at which a wait looks at the cancel flag.
const LOOK: Duration = Duration::from_millis(20);

/// Interval between two reports of a wait.
const REPORT: Duration = Duration::from_millis(500);

/// How long a server that may not be waited for has to list its models.
const LEAST: Duration = Duration::from_secs(10);

/// Silence of a server that is awake, after which it is reported.
const QUIET: Duration = Duration::from_secs(5);

/// Time for a call that only improves the figures.
const ASIDE: Duration = Duration::from_secs(3);

/// An open session.
pub struct Session {
    runtime: Option<Runtime>,
    client: Client,
    server: Server,
    known: Known,
    listing: Listing,
    /// The key and the values of headers, which no message may repeat.
    secrets: Vec<String>,
    /// What is known about the server and its model.
    pub info: ModelInfo,
}

/// Why a session or an answer ended early.
pub(super) enum Stop {
    Cancelled,
    Failed(EngineError),
}

impl Stop {
    fn into_error(self) -> EngineError {
        match self {
            Self::Cancelled => EngineError::new(ErrorKind::Cancelled, "Waiting for the server was stopped."),
            Self::Failed(error) => error,
        }
    }
}

/// A wait that is reported while it lasts.
struct Wait<'a> {
    cancel: &'a CancelFlag,
    tell: &'a mut dyn FnMut(EngineEvent),
    /// Since when.
    begun: Timestamp,
    why: String,
    told: Option<Timestamp>,
    /// No report before this much time.
    quiet: Duration,
}

impl<'a> Wait<'a> {
    fn new(cancel: &'a CancelFlag, tell: &'a mut dyn FnMut(EngineEvent), begun: Timestamp) -> Self {
        Self { cancel, tell, begun, why: "no answer yet".into(), told: None, quiet: QUIET }
    }

    /// Reports the wait, at most once in [`REPORT`].
    fn tick(&mut self) {
        let now = Timestamp::now();
        let waited = now.since(self.begun);
        if waited >= self.quiet && self.told.is_none_or(|told| now.since(told) >= REPORT) {
            self.told = Some(now);
            (self.tell)(EngineEvent::Waiting { waited, why: self.why.clone(), at: now });
        }
    }

    /// Something went wrong; the wait is reported from now on.
    fn because(&mut self, why: String) {
        if self.why != why {
            self.told = None;
        }
        (self.why, self.quiet) = (why, Duration::ZERO);
        self.tick();
    }

    /// The result of `work`; an error as soon as the flag is raised.
    async fn on<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            if self.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            match tokio::time::timeout(LOOK, &mut work).await {
                Ok(result) => return Ok(result),
                Err(_) => self.tick(),
            }
        }
    }
}

impl Session {
    /// Waits until the server lists its models, and finds out about the one that will answer. `model`: its id; `None`: the
    /// server's, or the only one.
    pub fn open(
        server: Server,
        model: Option<String>,
        cancel: &CancelFlag,
        tell: &mut dyn FnMut(EngineEvent),
    ) -> Result<Self, EngineError> {
        let runtime = runtime()?;
        let mut wait = Wait::new(cancel, tell, Timestamp::now());
        let opened = runtime.block_on(async {
            let opened = Self::greet(&server, model, &mut wait).await;
            rest().await;
            opened
        });
        match opened {
            Ok((client, known, listing, secrets, info)) => {
                let warning = format!(
                    "the key for {} crosses the network unencrypted, because its address begins with http://",
                    server.name
                );
                if client.is_unprotected() {
                    (wait.tell)(EngineEvent::Warning(warning));
                }
                Ok(Self { runtime: Some(runtime), client, server, known, listing, secrets, info })
            }
            Err(stop) => {
                runtime.shutdown_background();
                Err(stop.into_error())
            }
        }
    }

    /// The client, and what no message may repeat.
    async fn client(server: &Server, wait: &mut Wait<'_>) -> Result<(Client, Vec<String>), Stop> {
        let failed = |message: String| Stop::Failed(EngineError::new(ErrorKind::Failed, message));
        let key = wait.on(key::read(&server.key)).await?.map_err(|why| failed(format!("{}: {why}.", server.name)))?;
        let headers = key::headers(&server.headers);
        let client = Client::new(&server.url, key.as_deref(), &headers, server.certificate.as_deref())
            .map_err(|why| failed(format!("{}: {why}.", server.name)))?;
        let secrets: Vec<String> = key.into_iter().chain(headers.into_iter().map(|(_, value)| value)).collect();
        Ok((client, secrets))
    }

    /// Waits until the server lists its models. One without a list can still answer for a model that is `named`.
    async fn wake(
        client: &Client,
        server: &Server,
        named: bool,
        secrets: &[String],
        wait: &mut Wait<'_>,
    ) -> Result<Listing, Stop> {
        let url = client.address.api("models");
        let mut patience = Patience::new(server.wait, wait.begun);
        loop {
            let within = patience.left(Timestamp::now()).max(LEAST);
            let trouble = match wait.on(client.json(&url, None, within)).await? {
                Ok(list) => return Ok(Listing::read(&list)),
                Err(Trouble::Status { code: 404 | 405 | 501, .. } | Trouble::NotJson) if named => {
                    return Ok(Listing::default());
                }
                Err(trouble) => trouble,
            };
            pause(&mut patience, &trouble, server, secrets, wait).await?;
        }
    }

    async fn greet(
        server: &Server,
        model: Option<String>,
        wait: &mut Wait<'_>,
    ) -> Result<(Client, Known, Listing, Vec<String>, ModelInfo), Stop> {
        let (client, secrets) = Self::client(server, wait).await?;
        let named = model.is_some() || server.model.is_some();
        let listing = Self::wake(&client, server, named, &secrets, wait).await?;
        let model = listing.choose(model.or_else(|| server.model.clone()), &server.name).map_err(Stop::Failed)?;
        let dialect = match server.dialect {
            Dialect::Unknown => listing.dialect(),
            known => known,
        };
        let known = Known { model, dialect, ..Known::default() };
        let mut patience = Patience::new(server.wait, wait.begun);
        ready(&client, dialect, &mut patience, server, &secrets, wait).await?;
        let mut context = listing.context_length(&known.model);
        if dialect == Dialect::LlamaServer {
            let props = wait.on(client.json(&client.address.beside("props"), None, ASIDE)).await?;
            context = props.ok().and_then(|props| models::slot(&props)).or(context);
        }
        let info = ModelInfo {
            name: format!("{}@{}", known.model, server.name),
            context_length: context.unwrap_or(0),
            trained_context_length: context.unwrap_or(0),
            device: DeviceInfo { kind: DeviceKind::Server, name: client.address.shown().to_owned() },
            think_switch: !matches!(dialect, Dialect::OpenAi),
            ..ModelInfo::default()
        };
        Ok((client, known, listing, secrets, info))
    }

    /// Answers `job`; all events but the terminal one go to `emit`. Returns the terminal event.
    pub fn answer(&mut self, job: &Job<'_>, emit: &mut dyn FnMut(EngineEvent)) -> (EngineEvent, ModelHealth) {
        let id = job.request.id;
        let served = Served { model: self.info.name.clone(), device: self.info.device.clone() };
        emit(EngineEvent::Served { id, served });
        let Some(runtime) = self.runtime.take() else {
            return (generation::panic_failure(id, "no network"), ModelHealth::Reload);
        };
        let ended = runtime.block_on(async {
            let ended = self.ask(job, emit).await;
            // The connection of an answer that was given up is closed by its task.
            rest().await;
            ended
        });
        self.runtime = Some(runtime);
        let event = match ended {
            Ok(event) => event,
            Err(Stop::Cancelled) => cancelled(id, job.submitted),
            Err(Stop::Failed(error)) => EngineEvent::Failed { id, error, at: Timestamp::now() },
        };
        (event, ModelHealth::Ok)
    }

    async fn ask(&mut self, job: &Job<'_>, emit: &mut dyn FnMut(EngineEvent)) -> Result<EngineEvent, Stop> {
        let url = self.client.address.api("chat/completions");
        let begun = Timestamp::now();
        let mut patience = Patience::new(self.server.wait, begun);
        let (request, trimmed_turns) = self.fitted(job, emit).await?;
        loop {
            let body = request::body(&request, &self.server, &self.known);
            let sent = Timestamp::now();
            let mut wait = Wait::new(job.cancel, emit, begun);
            let within = self.server.silence.map(|silence| silence.max(patience.left(sent)));
            let conversation = request.conversation.as_deref();
            let trouble = match wait.on(self.client.send_of(conversation, &url, Some(&body), within)).await? {
                Ok(answer) => {
                    let waited = job.loaded_at.since(job.submitted) + sent.since(begun);
                    // The time to build the request is no wait.
                    let waited = if waited < Duration::from_millis(1) { Duration::ZERO } else { waited };
                    let reader = reading::Reader::new(job, &self.server, (sent, waited), trimmed_turns);
                    match reader.read(answer, emit).await {
                        reading::Outcome::Cancelled => return Err(Stop::Cancelled),
                        reading::Outcome::Ended(event) => return Ok(self.clean_event(*event)),
                        reading::Outcome::Nothing(why) => Trouble::Lost(why),
                    }
                }
                Err(Trouble::Status { code: 400 | 422, text: Some(text), .. })
                    if request::refused_field(&body, &text).is_some() =>
                {
                    let field = request::refused_field(&body, &text).unwrap_or_default();
                    tracing::info!(field, "the server refused a field");
                    if !matches!(field.as_str(), "stream_options" | "return_progress" | "max_tokens") {
                        let warning = format!("{} refuses {field}, so it is left out", self.server.name);
                        emit(EngineEvent::Warning(warning));
                    }
                    self.known.refused.insert(field);
                    continue;
                }
                Err(Trouble::Status { code: 404, text, .. }) => {
                    let why = self.clean(text.as_deref().unwrap_or("HTTP 404"));
                    return Err(Stop::Failed(self.listing.missing(&self.known.model, &self.server.name, &why)));
                }
                Err(trouble) => trouble,
            };
            let mut wait = Wait::new(job.cancel, emit, begun);
            let (server, secrets) = (&self.server, &self.secrets[..]);
            pause(&mut patience, &trouble, server, secrets, &mut wait).await?;
            ready(&self.client, self.known.dialect, &mut patience, server, secrets, &mut wait).await?;
        }
    }

    /// The request, without as many of its oldest turns as its context has no room for, and their number. All turns remain
    /// if the user does not allow that, or the server does not count exactly: then it may refuse the prompt.
    async fn fitted<'a>(
        &self,
        job: &Job<'a>,
        emit: &mut dyn FnMut(EngineEvent),
    ) -> Result<(Cow<'a, GenerationRequest>, usize), Stop> {
        let request = job.request;
        let starts = generation::turn_starts(&request.messages);
        let context_length = self.info.context_length;
        let whole = Ok((Cow::Borrowed(request), 0));
        if request.on_overflow != OverflowPolicy::Trim || starts.len() < 2 || context_length == 0 {
            return whole;
        }
        let mut wait = Wait::new(job.cancel, emit, Timestamp::now());
        let without = |turns: usize| generation::without_turns(&request.messages, &starts, turns);
        match wait.on(self.tokens_of(&request.messages)).await? {
            Some(tokens) if tokens >= context_length => {}
            _ => return whole,
        }
        // As with the own engine, room for a quarter of the context is left for the answer.
        let reserve = (context_length / 4).min(request.max_tokens.unwrap_or(usize::MAX)).max(1);
        let (mut low, mut high) = (1, starts.len() - 1);
        while low < high {
            let middle = low.midpoint(high);
            match wait.on(self.tokens_of(&without(middle))).await? {
                Some(tokens) if tokens + reserve <= context_length => high = middle,
                _ => low = middle + 1,
            }
        }
        let shorter = GenerationRequest { messages: without(high), ..request.clone() };
        let (id, at) = (request.id, Timestamp::now());
        (wait.tell)(EngineEvent::Prefill { id, done: 0, total: 0, cached: 0, trimmed_turns: high, at });
        Ok((Cow::Owned(shorter), high))
    }

    /// The tokens of a prompt; `None` if the server does not count exactly.
    async fn tokens_of(&self, messages: &[ChatMessage]) -> Option<usize> {
        let address: &Address = &self.client.address;
        let url = match self.known.dialect {
            Dialect::LlamaServer => address.api("chat/completions/input_tokens"),
            Dialect::Vllm => address.beside("tokenize"),
            _ => return None,
        };
        let body = request::count_body(messages, &self.known);
        let counted = self.client.json(&url, Some(&body), ASIDE).await.ok()?;
        let tokens = ["input_tokens", "count"].iter().find_map(|name| counted[*name].as_u64());
        usize::try_from(tokens?).ok()
    }

    /// Whether the server sleeps, where that can be asked without waking it; `None`: it cannot, or is not known now.
    pub fn is_asleep(&mut self) -> Option<bool> {
        let address = &self.client.address;
        let url = match self.known.dialect {
            Dialect::LlamaServer => address.beside("props"),
            Dialect::Vllm => address.beside("is_sleeping"),
            Dialect::Ollama => address.beside("api/ps"),
            _ => return None,
        };
        let told = self.runtime.as_ref()?.block_on(self.client.json(&url, None, ASIDE)).ok()?;
        models::is_asleep(&told, &self.known.model)
    }

    /// The `Counted` event of the prompt of `request`, if the server counts exactly; else `None`.
    pub fn count(&mut self, request: CountRequest) -> Option<EngineEvent> {
        let context_length = Some(self.info.context_length).filter(|length| *length > 0)?;
        let prompt_tokens = self.runtime.as_ref()?.block_on(self.tokens_of(&request.messages))?;
        let left_out = (prompt_tokens < context_length).then_some(0);
        Some(EngineEvent::Counted { id: request.id, prompt_tokens, cached_tokens: 0, left_out, context_length })
    }

    fn clean_event(&self, event: EngineEvent) -> EngineEvent {
        match event {
            EngineEvent::Failed { id, error, at } => {
                let error = EngineError { message: self.clean(&error.message), ..error };
                EngineEvent::Failed { id, error, at }
            }
            other => other,
        }
    }

    fn clean(&self, text: &str) -> String {
        without(text, &self.secrets)
    }
}

/// The models that `server` lists, once it is awake.
pub fn list(server: &Server, tell: &mut dyn FnMut(EngineEvent)) -> Result<Listing, EngineError> {
    let cancel = CancelFlag::default();
    let mut wait = Wait::new(&cancel, tell, Timestamp::now());
    let runtime = runtime()?;
    let listing = runtime.block_on(async {
        let (client, secrets) = Session::client(server, &mut wait).await?;
        Session::wake(&client, server, false, &secrets, &mut wait).await
    });
    runtime.shutdown_background();
    listing.map_err(Stop::into_error)
}

fn runtime() -> Result<Runtime, EngineError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| EngineError::new(ErrorKind::Failed, format!("the system cannot start the network: {error}")))
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Do not wait for a DNS lookup that still runs on the runtime's blocking thread.
            runtime.shutdown_background();
        }
    }
}

/// Lets the tasks of the connections that were dropped close them.
async fn rest() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

/// Waits until a server that tells its health is healthy, so that the prompt is not sent before.
async fn ready(
    client: &Client,
    dialect: Dialect,
    patience: &mut Patience,
    server: &Server,
    secrets: &[String],
    wait: &mut Wait<'_>,
) -> Result<(), Stop> {
    if !matches!(dialect, Dialect::LlamaServer | Dialect::Vllm | Dialect::Sglang) {
        return Ok(());
    }
    let url = client.address.beside("health");
    loop {
        let within = Some(patience.left(Timestamp::now()).max(LEAST));
        match wait.on(client.send(&url, None, within)).await? {
            Err(trouble) if is_passing(&trouble) => pause(patience, &trouble, server, secrets, wait).await?,
            // A server behind a proxy may have no such address; then the prompt tells.
            _ => return Ok(()),
        }
    }
}

fn is_passing(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Refused(_) | Trouble::Silent => true,
        Trouble::Status { code, .. } => patience::is_temporary(*code),
        Trouble::Lost(_) | Trouble::NotJson | Trouble::Hopeless(_) => false,
    }
}

/// Waits as `patience` says after `trouble`, or fails.
async fn pause(
    patience: &mut Patience,
    trouble: &Trouble,
    server: &Server,
    secrets: &[String],
    wait: &mut Wait<'_>,
) -> Result<(), Stop> {
    let verdict = patience.judge(trouble, Timestamp::now());
    // The server's text may repeat a key.
    let goes_on = matches!(verdict, Verdict::Again(_));
    tracing::debug!(why = without(&patience::describe(trouble), secrets), goes_on, "server trouble");
    match verdict {
        Verdict::Again(span) => {
            wait.because(without(&patience::describe(trouble), secrets));
            wait.on(tokio::time::sleep(span)).await
        }
        Verdict::TooLate(why) => {
            let waited = patience.waited(Timestamp::now()).as_secs();
            let message = format!(
                "{} was not ready within {waited} s: {}. Your message is kept: send it again, or allow more time with \
                 --server-wait.",
                server.name,
                without(&why, secrets)
            );
            Err(Stop::Failed(EngineError::new(ErrorKind::Failed, message)))
        }
        Verdict::Final(why) => Err(Stop::Failed(refusal(trouble, &without(&why, secrets), server))),
    }
}

/// The terminal event of a request that was cancelled before its answer; the server may have counted its tokens.
fn cancelled(id: RequestId, submitted: Timestamp) -> EngineEvent {
    let at = Timestamp::now();
    let timing = Timing { total: at.since(submitted), ..Timing::default() };
    EngineEvent::Finished { id, reason: FinishReason::Cancelled, usage: Usage::of([None; 3]), timing, at }
}

/// The error for a trouble that another try cannot change.
fn refusal(trouble: &Trouble, why: &str, server: &Server) -> EngineError {
    let name = &server.name;
    let hint = match trouble {
        Trouble::Status { code: 401 | 403, .. } => match &server.key {
            KeySource::Variable(variable) => format!(" Put a valid key into the environment variable {variable}."),
            KeySource::Command(_) => " Check what its key_command prints.".to_owned(),
            KeySource::None => format!(" Name the variable of its key as key_env of [server.{name}]."),
        },
        Trouble::Status { code: 402, .. } => " Its account has no credit.".to_owned(),
        Trouble::Lost(_) => " The connection ended before an answer began; send the message again.".to_owned(),
        _ => String::new(),
    };
    let overflows = matches!(trouble, Trouble::Status { code: 400 | 413 | 422 | 500, .. }) && problem::is_overflow(why);
    let kind = if overflows { ErrorKind::ContextOverflow } else { ErrorKind::Failed };
    EngineError::new(kind, format!("{name} refused the request: {why}.{hint}"))
}

/// `text` without any of `secrets`.
fn without(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret.as_str(), "[secret]");
    }
    text
}
