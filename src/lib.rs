//! chatnap: a terminal chat whose inference engine runs in the same process and releases all of its memory when idle.
//!
//! This page is the map: what runs where, which module owns what, how the four flows go through the modules, and which
//! invariants hold, each with the test that guards it. How to build, test and extend the program: `CONTRIBUTING.md`.
//!
//! # The program
//!
//! One crate, one process. Three front ends share one engine:
//!
//! - [`tui`]: the interactive terminal interface (`chatnap`);
//! - [`oneshot`]: one answer on standard output (`chatnap -p …`, or a prompt on standard input);
//! - [`commands`]: subcommands (`chatnap models`, `conversations`, `bench`, `gpu`, …).
//!
//! `main.rs` parses the command line ([`cli`], [`settings`]), picks the front end and maps its result to an exit code
//! ([`failure`]).
//!
//! # Threads, and what each owns
//!
//! | thread | started by | owns |
//! | --- | --- | --- |
//! | main | | the front end: `tui::App` (a current-thread tokio runtime), `oneshot::run`, or a subcommand |
//! | `keys` | `tui::keys` | blocking reads of the terminal; sends to the interface's one channel |
//! | `signals` | `tui::input`, `signals` | the process's signals; sends to the channel of its front end |
//! | `ending` | `tui::ending` | the time limit of a shutdown that a signal began |
//! | `files` | `tui::attaching` | one read of an attached file, or one list of paths |
//! | `chatnap-engine` | [`engine::Engine::start`] | queue of requests, `lifecycle::State`, the idle deadline; blocks only at shutdown, 1.7 s at most |
//! | `chatnap-device` | `worker::device`, one for each load | the loaded model, tokenizer, chat template, KV cache |
//! | `chatnap-cpu-N` | `cpu::Threads` | nothing; they run parts of parallel loops for the device thread |
//! | `driver` | `engine::worker` | the start of the GPU driver, before a load needs it |
//! | `chatnap-gpu`, one for each GPU of a model but the first | `cuda::model` | its part of the model; the first one's is the device thread's |
//! | `chatnap-context`, `memory`, `beside`, `give back` | `cuda::load`, `cuda::driver` | context creation and destruction, free GPU memory, cuBLASLt loading |
//! | readers without a name | `weights::reader` | reads of one weights file, in blocks |
//! | `fingerprint` | `fingerprint::Pending` | the hash of samples of the model's files, beside a load |
//! | `chatnap-template` | `chat_template::limited_thread` | one compile or render of a chat template, with a bounded stack and time |
//! | `release` | `report::session` | the engine of an interrupted report, until it has ended |
//! | `store` | [`store::StoreHandle`] | the database; the interface never waits for the disk |
//!
//! Short-lived threads without a name: `cli::input` says after 3 s that standard input is awaited, and `tui` waits for
//! engine and store at the end.
//!
//! # Code map
//!
//! | module | what it is |
//! | --- | --- |
//! | [`protocol`] | plain data at the engine's boundary: requests, events, model info, errors |
//! | [`conversation`], [`stats`], [`clock`] | plain data: turns and branches, figures, timestamps |
//! | [`usage`] | what models were used for in a period, its costs, and advice on the idle window; pure |
//! | [`chat`] | the interactive chat as a pure state machine: `update(&mut Chat, Event) -> Vec<Effect>` |
//! | [`tui`] | terminal events → [`chat`] events; effects → engine, store, clipboard; `tui::view` draws |
//! | [`oneshot`], [`commands`] | the other two front ends |
//! | [`cli`], [`settings`], [`catalogue`] | argv; defaults < config file < environment < flags; known model names |
//! | [`hub`] | model name → files: local path, cache, Hugging Face hub, package mirror; downloads and checks |
//! | [`store`] | conversations in SQLite; a spool file while the database is locked |
//! | [`engine`] | the handle; below it text, numbers and devices |
//! | [`sanitize`] | foreign text made harmless |
//! | [`cells`] | the width of a text in terminal cells |
//! | [`wording`] | plurals, byte counts and dates, shared by all front ends |
//! | [`output`], [`progress`], [`signals`] | standard output, the progress line, the process's signals |
//! | [`failure`], [`files`] | exit codes, regular files |
//! | [`logging`] | the log file (`CHATNAP_LOG`, `--log`) |
//! | [`mod@bench`] | speed tests of a loaded model |
//! | [`report`] | plays scenarios, judges the answers, measures latency and memory |
//!
//! Inside [`engine`], from the handle down:
//!
//! - `worker` (the engine thread) executes what `lifecycle` decides and talks to `worker::device`;
//! - `generation` runs one answer: render (`prompt`, `chat_template`), encode (`tokenizer`), handle overflow, reuse the
//!   cached prefix (`prefix`), prefill, decode (`sampler`), detokenize (`generation::output`), or repeats a
//!   stored one step by step (`generation::repeat`);
//! - `load` is the only module that knows every loader and device: headers (`model::parts`) and device, then weights;
//! - `model` has the `Model` trait, the shape of a model (`model::config`), the CPU forward pass (`model::transformer`) and
//!   the families that candle-transformers runs (`model::candle`);
//! - `weights` reads GGUF and safetensors; `cpu` has the CPU kernels, `cuda` the GPU engine: `cuda::driver` (the driver
//!   API), `cuda::select` (which GPUs; `select::pick` decides for `auto`) and `cuda::inspect` (GPUs, their connections, which
//!   models), `cuda::load`, `cuda::layout` (weights in GPU memory), `cuda::model` (a model on one or several GPUs),
//!   `cuda::rank` (one GPU's part: buffers and KV cache), `cuda::split` (which part), `cuda::exchange`,
//!   `cuda::exchange_test` and `cuda::exchange_time` (sums between GPUs), `cuda::prompt` and `cuda::prefill_chunk` (prefill),
//!   `cuda::hopper_attention`, `cuda::step` and `cuda::decode` (one token), `cuda::matmul`, `cuda::images` (the embedded
//!   machine code), `cuda::kernels` and `cuda::params` (handles and arguments of `cuda/kernels/*.cu`), `cuda::tuning`, `cuda::bandwidth`, `cuda::checks`;
//! - `source` names a model's files, `fingerprint` hashes samples of them, `error` has the engine's error types, `memory` measures the process and
//! - `remote` answers through an OpenAI-compatible server instead: `worker::device` holds a `remote::session` in place of a model;
//!   its other parts are pure (frames, bodies, redirects, patience), but for `remote::client` (HTTP) and `remote::key`;
//! - `source` names a model's files, `error` has the engine's error types, `memory` measures the process and
//!   returns freed memory to the system, `crash` handles fatal signals and failed allocations; `scripted` is a model played from a file, for tests.
//!
//! # Flows
//!
//! 1. **A keystroke.** `tui::keys` → `tui::input` → `tui::App` → `tui::ui_state` → `tui::keymap` → [`chat::update`] →
//!    `Effect` → [`engine::Engine`] or [`store::StoreHandle`]. All inputs that are waiting are handled before one frame is
//!    drawn (`tui::view::draw`), at most one frame in 16 ms; the tokens of an answer are handled once in 33 ms.
//! 2. **An answer.** `Effect::Save`; the store writes the question and answers `Event::Saved`, or 1.5 s pass →
//!    `Effect::Generate` → [`engine::Engine::generate`] → `worker` → `lifecycle::step` → `worker::device` →
//!    `generation::answer` → `Model` → `protocol::EngineEvent` → back through `worker` to the front end's sink. A
//!    token becomes text in `generation::output` (`tokenizer::stream`), part of an answer in `chat::answering`, and
//!    lines on the screen in `tui::view::turn` and `tui::view::markdown`.
//! 3. **A load.** `lifecycle` → `Effect::StartLoad` → `worker::device` → [`hub`] (`ModelSource::locate`) → `engine::load::load`:
//!    the GPU context is created while the headers are parsed; then tokenizer and weights load at the same time. Too little
//!    memory on a GPU is found before any weights are read (`cuda::load::capacity`) and reported with what would fit; a later
//!    allocation can still fail. Memory that runs out during an answer ends that answer with an error and keeps its text,
//!    and the next request loads again (`lifecycle::ModelHealth`).
//! 4. **The idle release.** `lifecycle` decides: `State::release_at` is the deadline. `Event::Deadline` of the
//!    current epoch leads to `Effect::Release`; one of an earlier epoch is ignored. `worker` closes the device
//!    thread's channel, `worker::device` calls `Model::release`, which on a GPU destroys the context and measures the
//!    freed bytes; `EngineEvent::Released` carries them to the status line. The interface only shows the countdown.
//!
//! # Invariants
//!
//! Paths are relative to the repository; `engine/` stands for `src/engine/`.
//!
//! | invariant | guarded by |
//! | --- | --- |
//! | Modules import only what the table of layers allows; the only import circles are the listed pairs of files | `tests/it/imports.rs` |
//! | `chat`, `conversation`, `stats`, `usage` and `engine::lifecycle` do no I/O, read no clock, start nothing | `tests/it/imports.rs` |
//! | The engine imports no front end, only `clock`, `protocol` and `wording` | `tests/it/imports.rs` |
//! | `unsafe` only under `engine/`, each block with its SAFETY sentence | `tests/it/imports.rs`, clippy |
//! | Every accepted request gets exactly one terminal event; no release while a request waits | `engine/lifecycle/model_check.rs` (all states reachable in a bounded number of events) |
//! | Foreign text passes [`sanitize`] before a terminal and [`cells`] before a frame | `tests/it/foreign.rs`, `tests/fuzz` |
//! | A question is on disk before inference unless the disk takes more than 1.5 s or fails; an answer is at most 250 ms behind the screen | `tests/it/store.rs`, `benches/kill9.py` |
//! | The first frame does not wait for model, disk or network | `tests/it/chat.rs` |
//! | A stored answer is repeated token by token on the same build and device | `tests/it/replay.rs`, `benches/replay.py` |
//! | Each CPU kernel equals its scalar twin, each GPU kernel its CPU twin | `engine/cpu/tests.rs`, `engine/cuda/checks` |
//! | A model file that would be computed differently from what its metadata say is refused; other oddities are warnings | `engine/model/parts/refusals.rs` |
//! | A release returns all memory of a load to the system, also after many cycles | `tests/it/release.rs`, `benches/gpu.sh`, `benches/gpu2.sh` |
//! | All GPUs of a model compute the same bits; a wait for another GPU ends with an error, never in a hang | `engine/cuda/checks/parallel.rs` |

pub mod bench;
pub mod catalogue;
pub mod cells;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod conversation;
pub mod engine;
pub mod failure;
pub mod files;
pub mod hub;
pub mod logging;
pub mod oneshot;
pub mod output;
pub mod progress;
pub mod protocol;
pub mod report;
pub mod sanitize;
pub mod settings;
pub mod signals;
pub mod stats;
pub mod store;
pub mod survey;
pub mod tui;
pub mod usage;
pub mod wording;
