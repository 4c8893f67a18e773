//! Answers from an OpenAI-compatible server in place of a model in this process: the same events, other figures.
//!
//! Pure: `sse` (bytes → events), `frame` (event → text, counts, errors), `answer` (a whole answer), `request` (the body),
//! `redirect`, `address`, `models` (the list), `patience` (what to do about each trouble, and when). `session` does the rest
//! on the device thread, with `client` (HTTP), `key` and `reading` (a body → events).

pub mod address;
pub mod answer;
mod client;
pub mod frame;
mod key;
pub mod models;
pub mod patience;
pub mod problem;
mod reading;
pub mod redirect;
pub mod request;
pub mod session;
pub mod sse;
pub mod usage;
