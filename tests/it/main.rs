//! Integration tests, one module per user-visible area.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod attention;
mod bench;
mod chat;
mod cli;
mod completions;
mod config;
mod damaged;
mod editor;
mod files;
mod foreign;
mod hub;
mod imports;
mod loading;
mod logging;
mod markdown;
mod oneshot;
mod panic;
mod perplexity;
mod pipe;
mod readme;
mod release;
mod resize;
mod reuse;
mod run;
mod screenshot;
mod settings;
mod signals;
mod stop;
mod store;
mod support;
mod support_hub;
mod support_pty;
mod template;
mod themes;
mod turns;
