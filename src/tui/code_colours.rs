//! Colours of complete code blocks, from the grammars of `two-face`.
//!
//! A grammar can take seconds for a hostile line, panic in a rarely used pattern, and all of them take some 20 MB. So
//! they run on a thread of their own, which loads them at the first block and drops them after a pause. Long blocks
//! and lines are left out, and a block has a deadline. Without a result the block keeps the colours of
//! `view::markdown::code`.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use syntect::parsing::{ParseState, ScopeStack, SyntaxReference, SyntaxSet};

mod roles;

pub use roles::Role;

/// Longer blocks are not sent, in bytes.
pub const LONGEST_BLOCK: usize = 64 * 1024;

/// Longer lines get no colours, in bytes.
const LONGEST_LINE: usize = 512;

/// Time for one block.
const DEADLINE: Duration = Duration::from_millis(500);

/// The grammars are dropped after this time without a block.
const KEEP: Duration = Duration::from_secs(60);

const THREAD: &str = "code-colours";

/// The lines of a block: lengths in bytes and roles of the pieces of each. A line without colours is empty.
pub type Coloured = Arc<Vec<Vec<(usize, Role)>>>;

/// A block to colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Chosen by the sender, and returned with the result.
    pub id: u64,
    /// First word of the block's info string.
    pub language: String,
    pub code: String,
}

/// Handle of the thread, which starts with the first job.
pub struct Colourist {
    jobs: Option<Sender<Job>>,
    answer: Arc<dyn Fn(u64, Coloured) + Send + Sync>,
}

impl Colourist {
    /// `answer` receives each result, on the thread. A block whose language is unknown or that fails has none.
    pub fn new(answer: impl Fn(u64, Coloured) + Send + Sync + 'static) -> Self {
        Self { jobs: None, answer: Arc::new(answer) }
    }

    pub fn ask(&mut self, job: Job) {
        if self.jobs.is_none() {
            self.jobs = self.start();
        }
        if let Some(jobs) = &self.jobs {
            // The thread ends only with this handle.
            let _ = jobs.send(job);
        }
    }

    /// `None` if no thread can be started.
    fn start(&self) -> Option<Sender<Job>> {
        keep_panics_quiet();
        let (jobs, inbox) = channel();
        let answer = self.answer.clone();
        let thread = std::thread::Builder::new().name(THREAD.into());
        thread.spawn(move || work(&inbox, &*answer)).ok().map(|_| jobs)
    }
}

impl std::fmt::Debug for Colourist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Colourist").field("started", &self.jobs.is_some()).finish()
    }
}

/// A panic of a grammar is caught and has no consequence: it prints nothing.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(THREAD) {
                earlier(info);
            }
        }));
    });
}

fn work(jobs: &Receiver<Job>, answer: &dyn Fn(u64, Coloured)) {
    while let Ok(first) = jobs.recv() {
        let grammars = two_face::syntax::extra_newlines();
        let mut job = first;
        loop {
            let coloured = panic::catch_unwind(AssertUnwindSafe(|| colour(&grammars, &job.language, &job.code)));
            if let Ok(Some(lines)) = coloured {
                answer(job.id, Arc::new(lines));
            }
            match jobs.recv_timeout(KEEP) {
                Ok(next) => job = next,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Colours a block. `None` if its language is unknown or the time is over.
fn colour(grammars: &SyntaxSet, language: &str, code: &str) -> Option<Vec<Vec<(usize, Role)>>> {
    let grammar = grammar(grammars, language).filter(|_| code.len() <= LONGEST_BLOCK)?;
    colour_by(grammars, grammar, code)
}

fn colour_by(grammars: &SyntaxSet, grammar: &SyntaxReference, code: &str) -> Option<Vec<Vec<(usize, Role)>>> {
    let end = Instant::now() + DEADLINE;
    let (mut state, mut scopes) = (ParseState::new(grammar), ScopeStack::new());
    let mut lines = Vec::new();
    for line in code.split('\n') {
        if Instant::now() > end {
            return None;
        }
        if line.len() > LONGEST_LINE {
            lines.push(Vec::new());
            continue;
        }
        let ops = state.parse_line(&format!("{line}\n"), grammars).ok()?;
        let mut pieces: Vec<(usize, Role)> = Vec::new();
        let mut from = 0;
        let mut add = |to: usize, scopes: &ScopeStack| {
            if let Some(piece) = line.get(from..to.min(line.len())).filter(|piece| !piece.is_empty()) {
                let role = Role::of(scopes.as_slice(), piece);
                match pieces.last_mut() {
                    Some((length, last)) if *last == role => *length += piece.len(),
                    _ => pieces.push((piece.len(), role)),
                }
                from += piece.len();
            }
        };
        for (at, op) in ops {
            add(at, &scopes);
            scopes.apply(&op).ok()?;
        }
        add(line.len(), &scopes);
        lines.push(pieces);
    }
    Some(lines)
}

/// The grammar of a language that models name in an info string.
fn grammar<'g>(grammars: &'g SyntaxSet, language: &str) -> Option<&'g SyntaxReference> {
    let language = language.to_ascii_lowercase();
    let token = match language.as_str() {
        "" | "text" | "txt" | "plain" | "plaintext" | "output" | "code" => return None,
        "sh" | "shell" | "zsh" | "console" | "shell-session" | "shellsession" | "terminal" | "ksh" => "bash",
        "python3" | "py3" | "ipython" | "pycon" => "python",
        "golang" => "go",
        "c++" | "cuda" | "cu" | "hpp" => "cpp",
        "c#" | "csharp" => "cs",
        "jsonc" | "json5" | "jsonl" => "json",
        "node" | "mjs" | "cjs" => "js",
        "patch" => "diff",
        "docker" => "dockerfile",
        "objc" | "objective-c" => "objective-c",
        "ps" | "pwsh" => "powershell",
        "postgresql" | "postgres" | "mysql" | "sqlite" | "plsql" => "sql",
        "vimscript" => "viml",
        "tex" => "latex",
        other => other,
    };
    grammars.find_syntax_by_token(token)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
