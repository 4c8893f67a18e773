//! Integration tests: a module per story.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod config;
mod hub;
mod imports;
mod oneshot;
mod pipe;
mod run;
mod store;
mod support;
mod support_hub;
