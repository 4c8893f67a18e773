//! Integration tests: a module per story.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hub;
mod support;
mod support_hub;
