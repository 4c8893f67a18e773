//! The Jinja environment of transformers' chat templates, with resource limits.

use std::io;

use jiff::ZonedDateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::json::tojson;
use super::strftime::strftime;
use super::{budget, globals, python};

/// Recursion limit for calls, loops and blocks; real templates need fewer than 20.
const MAX_DEPTH: usize = 120;

/// The clock for `strftime_now`; tests use a fixed one.
pub type Now = fn() -> ZonedDateTime;

/// Creates an environment without templates.
pub fn new(now: Now) -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_recursion_limit(MAX_DEPTH);
    minijinja_contrib::add_to_environment(&mut environment);
    globals::install(&mut environment);
    python::install(&mut environment);
    budget::install(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| strftime(&now(), format));
    environment
}

fn raise_exception(message: &str) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// An output buffer that fails a write beyond its limit.
pub struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    /// At most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// The output; `None` if it is not UTF-8.
    pub fn into_string(self) -> Option<String> {
        String::from_utf8(self.bytes).ok()
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(io::Error::other(format!("the output is larger than {} MiB", self.limit >> 20)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
