//! chatnap: a terminal chat whose engine lives in the same process and takes a nap when nobody talks to it.
//!
//! # Flows, all one-way
//!
//! - A keystroke: terminal event → `tui::keymap` → [`chat`]`::update` → `Effect::Generate` → [`engine::Engine::generate`]
//!   → worker → [`protocol::EngineEvent`] → `chat::update` → one draw for all that is waiting.
//! - One-shot: [`cli`] → [`oneshot`] → the same `Engine::generate` → events → stdout.
//! - Idle release: `engine::lifecycle` owns the deadline; the interface only shows the countdown.
//!
//! # Invariants
//!
//! 1. The core (`chat`, `conversation`, `engine::lifecycle`, `stats`) does no I/O, reads no clock and spawns nothing.
//! 2. The engine knows no terminal, the terminal knows no tensor: [`protocol`] is all that they share.
//! 3. Every accepted request gets exactly one terminal event: finished (stop, length, cancelled) or failed.
//! 4. Foreign text passes [`sanitize`] before it meets a terminal, and [`cells`] before it meets a frame.

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
pub mod oneshot;
pub mod output;
pub mod progress;
pub mod protocol;
pub mod sanitize;
pub mod settings;
pub mod stats;
pub mod store;
pub mod tui;
pub mod wording;
