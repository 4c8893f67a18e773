//! The body of an answer → events, times and the terminal event.

use std::time::Duration;

use super::answer::{Answer, Ending};
use super::client::Body;
use super::usage::Counts;
use crate::clock::Timestamp;
use crate::engine::generation::Job;
use crate::protocol::*;

/// Interval at which the cancel flag is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long the counts may follow after the server has said why the answer ended.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The result of a body.
pub(super) enum Outcome {
    /// The terminal event.
    Ended(Box<EngineEvent>),
    /// The connection ended without a byte.
    Nothing(String),
    /// It was cancelled before the first byte.
    Cancelled,
}

/// A reader of one body.
pub(super) struct Reader<'a> {
    job: &'a Job<'a>,
    server: &'a Server,
    /// When the request was sent.
    sent: Timestamp,
    /// How long the server was awaited before.
    waited: Duration,
    /// Number of oldest turns that were left out of the prompt.
    trimmed_turns: usize,
    answer: Answer,
    times: Times,
}

/// When texts came.
#[derive(Debug, Default)]
struct Times {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    gaps: Vec<Duration>,
}

/// Why no more bytes came.
enum End {
    /// As HTTP says it must.
    Whole,
    /// Nothing that follows is needed.
    Enough,
    Broken(String),
    Silent,
    Cancelled,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        job: &'a Job<'a>,
        server: &'a Server,
        (sent, waited): (Timestamp, Duration),
        trimmed_turns: usize,
    ) -> Self {
        let begun = job.request.messages.last().filter(|message| message.role == Role::Assistant);
        let continued = begun.map(|begun| begun.content.is_empty() && begun.reasoning.is_some());
        Self { job, server, sent, waited, trimmed_turns, answer: Answer::new(continued), times: Times::default() }
    }

    pub(super) async fn read(mut self, mut body: Body, emit: &mut dyn FnMut(EngineEvent)) -> Outcome {
        let mut any = false;
        let end = loop {
            if self.answer.is_over() {
                break End::Enough;
            }
            match self.next(&mut body).await {
                Ok(packet) => {
                    any |= !packet.is_empty();
                    self.take(&packet, emit);
                }
                Err(end) => break end,
            }
        };
        // Closes the connection, which stops the server's work.
        drop(body);
        match end {
            End::Broken(why) if !any => return Outcome::Nothing(why),
            End::Cancelled if !any => return Outcome::Cancelled,
            _ => {}
        }
        let (texts, ending) = self.answer.end(matches!(end, End::Whole));
        self.tell(texts, Timestamp::now(), emit);
        Outcome::Ended(Box::new(self.event(end, ending, emit)))
    }

    /// The next bytes.
    async fn next(&self, body: &mut Body) -> Result<Vec<u8>, End> {
        let begun = Timestamp::now();
        let limit = if self.answer.has_finished() { Some(AFTERWARDS) } else { self.server.silence };
        let mut next = std::pin::pin!(body.next());
        loop {
            if self.job.cancel.is_cancelled() {
                return Err(End::Cancelled);
            }
            match tokio::time::timeout(LOOK, &mut next).await {
                Ok(Ok(Some(packet))) => return Ok(packet),
                Ok(Ok(None)) => return Err(End::Whole),
                Ok(Err(why)) => return Err(End::Broken(why)),
                Err(_) if limit.is_some_and(|limit| Timestamp::now().since(begun) >= limit) => {
                    return Err(if self.answer.has_finished() { End::Enough } else { End::Silent });
                }
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, packet: &[u8], emit: &mut dyn FnMut(EngineEvent)) {
        let at = Timestamp::now();
        let texts = self.answer.push(packet);
        if let Some((done, total)) = self.answer.take_prefill() {
            let id = self.job.request.id;
            let (cached, trimmed_turns) = (self.answer.counts().cached.unwrap_or(0), self.trimmed_turns);
            emit(EngineEvent::Prefill { id, done, total, cached, trimmed_turns, at });
        }
        self.tell(texts, at, emit);
    }

    fn tell(&mut self, texts: Vec<(Channel, String)>, at: Timestamp, emit: &mut dyn FnMut(EngineEvent)) {
        for (channel, text) in texts {
            self.times.note(at);
            emit(EngineEvent::Token { id: self.job.request.id, channel, text, at });
        }
    }

    fn event(&mut self, end: End, ending: Ending, emit: &mut dyn FnMut(EngineEvent)) -> EngineEvent {
        let id = self.job.request.id;
        let name = &self.server.name;
        if matches!(end, End::Cancelled) {
            return self.finished(FinishReason::Cancelled);
        }
        let (kind, message) = match ending {
            Ending::Stop | Ending::Other(None) => return self.finished(FinishReason::Stop),
            Ending::Length => return self.finished(FinishReason::Length),
            Ending::Other(Some(reason)) => {
                emit(EngineEvent::Warning(format!("{name} ended the answer with the reason {reason}")));
                return self.finished(FinishReason::Stop);
            }
            Ending::Empty => (
                ErrorKind::Failed,
                format!(
                    "{name} gave no answer; the prompt may be longer than its context. Begin a new conversation with /new, or leave out earlier turns."
                ),
            ),
            Ending::Interrupted => {
                let why = match end {
                    End::Silent => "it was silent for too long".to_owned(),
                    End::Broken(why) => why,
                    _ => "the connection was closed".to_owned(),
                };
                (
                    ErrorKind::Failed,
                    format!("{name} did not end its answer: {why}. The text so far is kept; /retry asks again."),
                )
            }
            Ending::Failed(why) => {
                let overflow = self.times.first.is_none() && super::problem::is_overflow(&why);
                let kind = if overflow { ErrorKind::ContextOverflow } else { ErrorKind::Failed };
                (kind, format!("{name} reported an error: {why}. The text so far is kept; /retry asks again."))
            }
        };
        EngineEvent::Failed { id, error: EngineError::new(kind, message), at: Timestamp::now() }
    }

    fn finished(&mut self, reason: FinishReason) -> EngineEvent {
        let (id, at) = (self.job.request.id, Timestamp::now());
        let counts = self.answer.counts();
        let timing = self.times.timing(self.job.submitted, (self.sent, self.waited), at, &counts);
        EngineEvent::Finished {
            id,
            reason,
            usage: Usage::of([counts.prompt, counts.cached, counts.completion]),
            timing,
            at,
        }
    }
}

impl Times {
    fn note(&mut self, at: Timestamp) {
        self.first.get_or_insert(at);
        if let Some(last) = self.last.replace(at) {
            self.gaps.push(at.since(last));
        }
    }

    /// The wait for the server is the load. A proxy that holds back the answer until its end leaves no decode time.
    fn timing(
        &mut self,
        submitted: Timestamp,
        (sent, waited): (Timestamp, Duration),
        end: Timestamp,
        counts: &Counts,
    ) -> Timing {
        let decode = self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last.since(first));
        let at_once = decode < Duration::from_millis(1);
        Timing {
            load: waited,
            ttft: self.first.unwrap_or(end).since(sent),
            prefill: counts.prefill.unwrap_or_default(),
            decode: if at_once { Duration::ZERO } else { decode },
            total: end.since(submitted),
            inter_token: if at_once { Vec::new() } else { std::mem::take(&mut self.gaps) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_origin(Duration::from_millis(1000 + ms))
    }

    fn timing(texts: &[u64]) -> Timing {
        let mut times = Times::default();
        texts.iter().for_each(|ms| times.note(at(*ms)));
        times.timing(at(0), (at(300), Duration::from_millis(300)), at(900), &Counts::default())
    }

    /// A4.25.
    #[test]
    fn time_to_the_first_token_is_split_into_the_wait_and_the_rest() {
        let found = timing(&[500, 600, 800]);
        let ms = Duration::from_millis;
        assert_eq!((found.load, found.ttft, found.decode, found.total), (ms(300), ms(200), ms(300), ms(900)));
        assert_eq!(found.inter_token, [ms(100), ms(200)]);
        assert_eq!(found.prefill, Duration::ZERO);
    }

    /// A4.18.
    #[test]
    fn answer_that_arrives_at_once_has_no_rate() {
        let found = timing(&[850, 850, 850]);
        assert_eq!((found.ttft, found.decode), (Duration::from_millis(550), Duration::ZERO));
        assert!(found.inter_token.is_empty());
    }
}
