//! Answers from an OpenAI-compatible server in place of a model in this process: the same events, other figures.
//!
//! Pure: `sse` (bytes → events), `frame` (event → text, counts, errors), `answer` (a whole answer), `request` (the body),
//! `redirect`, `address`, `patience` (what to do about each trouble, and when).

pub mod address;
pub mod answer;
pub mod frame;
pub mod patience;
pub mod problem;
pub mod redirect;
pub mod request;
pub mod sse;
pub mod usage;
