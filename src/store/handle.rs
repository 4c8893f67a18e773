//! Runs the store on its own thread, for front ends that must not wait for the disk or for locks of other programs.
//! Turns that the database cannot store at the moment are kept in a spool file and stored as soon as possible.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::spool::Aside;
use super::{Result, Store, StoreError, now_ms, open};
use crate::conversation::{ConversationId, TurnRecord};

/// How long the first call waits for a lock of another program. While it stays locked, later calls do not wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// Interval between attempts to store turns that are not stored yet.
const RETRY: Duration = Duration::from_millis(250);

type Ask = Box<dyn FnOnce(Result<&mut Store>) + Send>;
type Done = Box<dyn FnOnce(Result<()>) + Send>;

enum Job {
    Ask(Ask),
    Save(Box<TurnRecord>, Done),
}

/// A message that the thread sends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A notice from opening the store: for example, that a damaged file was set aside.
    Notice(String),
    /// The store cannot be opened, and waiting does not help.
    Refused,
    /// Turns cannot be stored for this reason, and are kept in this file for now.
    Delayed(StoreError, PathBuf),
    /// All delayed turns are stored.
    CaughtUp,
    /// Another process continued this conversation; the turn that was just stored begins a branch.
    Continued(ConversationId),
}

/// The storage status of the turns of a conversation that this process saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Some are not on disk yet.
    Queued,
    /// In the database.
    Stored,
    /// Some are in this spool file, from which the next start stores them.
    Aside(PathBuf),
    /// Some could not be written anywhere.
    Lost(StoreError),
}

type Standings = Arc<Mutex<HashMap<ConversationId, Standing>>>;

/// A queue of jobs for the thread that owns the store. Dropping it waits until all jobs are done.
pub struct StoreHandle {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    standings: Standings,
}

impl StoreHandle {
    /// Starts the thread, which opens the store in `data_dir`.
    pub fn start(data_dir: PathBuf, tell: impl FnMut(Told) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let standings = Standings::default();
        let aside = Aside::new(&data_dir);
        let recorder = Recorder {
            data_dir,
            tell: Box::new(tell),
            store: None,
            refused: None,
            waited: Duration::ZERO,
            backlog: Vec::new(),
            aside,
            unindexed: true,
            delayed: false,
            standings: standings.clone(),
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || recorder.run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), standings })
    }

    /// Queues a job and returns at once. The job receives the store, or the error of opening it.
    pub fn run(&self, job: impl FnOnce(Result<&mut Store>) + Send + 'static) {
        self.send(Job::Ask(Box::new(job)));
    }

    /// Queues a turn to be saved and returns at once. `done` is called with `Ok` when it is on disk: in the database,
    /// or in the spool file, from which it is stored later (the thread then sends `Delayed`).
    pub fn save(&self, mut record: TurnRecord, done: impl FnOnce(Result<()>) + Send + 'static) {
        record.asked_ms.get_or_insert_with(now_ms);
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.entry(record.conversation.clone()).or_insert(Standing::Queued);
        drop(standings);
        self.send(Job::Save(Box::new(record), Box::new(done)));
    }

    /// The storage status of the turns of this conversation; `None` if none was saved.
    pub fn standing(&self, conversation: &ConversationId) -> Option<Standing> {
        standing(&self.standings, conversation)
    }

    /// A function like [`Self::standing`] that can be called after this handle is dropped.
    pub fn standings(&self) -> impl Fn(&ConversationId) -> Option<Standing> + use<> {
        let standings = self.standings.clone();
        move |conversation| standing(&standings, conversation)
    }

    /// Makes the thread finish its jobs and end, and waits at most `patience` for that.
    pub fn close(mut self, patience: Duration) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread runs until this handle is dropped.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn standing(standings: &Standings, conversation: &ConversationId) -> Option<Standing> {
    standings.lock().unwrap_or_else(PoisonError::into_inner).get(conversation).cloned()
}

/// The state of the thread.
struct Recorder {
    data_dir: PathBuf,
    tell: Box<dyn FnMut(Told) + Send>,
    store: Option<Store>,
    /// Why the store cannot be opened; not set for `Busy`, which may pass.
    refused: Option<StoreError>,
    /// Time that opening the store waited; subtracted from the patience of the first save.
    waited: Duration,
    /// Turns whose latest state is not in the database, in the order in which they were asked.
    backlog: Vec<TurnRecord>,
    aside: Aside,
    /// Whether turns may wait to be indexed for the search.
    unindexed: bool,
    /// Whether the last attempt failed; the next ones do not wait.
    delayed: bool,
    standings: Standings,
}

impl Recorder {
    fn run(mut self, queue: &Receiver<Job>) {
        let start = Instant::now();
        // If another program has locked the store, every job tries to open it again.
        self.delayed = self.open(PATIENCE).is_err();
        self.waited = start.elapsed();
        loop {
            let job = if self.unindexed {
                queue.recv_timeout(Duration::ZERO)
            } else if self.backlog.is_empty() || self.refused.is_some() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(RETRY)
            };
            match job {
                Ok(Job::Save(record, done)) => {
                    done(self.save(*record));
                    self.unindexed = true;
                }
                Ok(Job::Ask(job)) => {
                    let patience = self.patience();
                    job(self.open(patience));
                    self.unindexed = true;
                }
                Err(RecvTimeoutError::Timeout) if self.unindexed => {
                    // After an error the next job tries again.
                    let store = self.store.as_mut();
                    self.unindexed = store.is_some_and(|store| store.index_step().unwrap_or(false));
                }
                Err(RecvTimeoutError::Timeout) => drop(self.flush(Duration::ZERO)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Turns that still cannot be stored are in the spool file.
        drop(self.flush(Duration::ZERO));
    }

    fn patience(&mut self) -> Duration {
        let waited = std::mem::take(&mut self.waited);
        if self.delayed { Duration::ZERO } else { PATIENCE.saturating_sub(waited) }
    }

    /// The store. If it must be opened first, waits about `patience` for locks of other programs.
    fn open(&mut self, patience: Duration) -> Result<&mut Store> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.store.is_none() {
            let begun = Instant::now();
            match open::open(&self.data_dir, patience) {
                Ok(opened) => {
                    tracing::debug!(took = ?begun.elapsed(), notices = opened.notices.len(), "database opened");
                    opened.notices.into_iter().for_each(|notice| (self.tell)(Told::Notice(notice)));
                    self.store = Some(opened.store);
                }
                Err(StoreError::Busy) => {}
                Err(error) => {
                    (self.tell)(Told::Refused);
                    self.refused = Some(error.clone());
                    return Err(error);
                }
            }
        }
        self.store.as_mut().ok_or(StoreError::Busy)
    }

    fn save(&mut self, record: TurnRecord) -> Result<()> {
        let same = |other: &&mut TurnRecord| (&other.conversation, other.id) == (&record.conversation, record.id);
        match self.backlog.iter_mut().find(same) {
            Some(earlier) => *earlier = TurnRecord { asked_ms: earlier.asked_ms, ..record },
            None => self.backlog.push(record),
        }
        let patience = self.patience();
        match self.flush(patience) {
            Err(error) if error.may_pass() => self.put_aside(error),
            Err(error) if self.refused.is_some() => {
                let given_up = std::mem::take(&mut self.backlog);
                self.stand(&given_up, &Standing::Lost(error.clone()));
                Err(error)
            }
            done => done,
        }
    }

    /// Stores the backlog, oldest turn first: later turns refer to it as their parent.
    fn flush(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while let Some(record) = self.backlog.first().cloned() {
            let left = patience.saturating_sub(start.elapsed());
            let saved = self.open(left)?.save(&record, left);
            tracing::trace!(took = ?start.elapsed(), stored = saved.is_ok(), "turn saved");
            match saved {
                // The conversation was removed in the meantime, so its turns are dropped.
                Err(error @ StoreError::NotFound(_)) => {
                    self.backlog.remove(0);
                    self.stand(&[record], &Standing::Lost(error.clone()));
                    return Err(error);
                }
                done => done?,
            }
            self.backlog.remove(0);
            if self.backlog.iter().all(|other| other.conversation != record.conversation) {
                self.stand(&[record], &Standing::Stored);
            }
        }
        if let Some(store) = &mut self.store {
            store.tidy_later();
            store.take_continued().into_iter().for_each(|id| (self.tell)(Told::Continued(id)));
            if std::mem::replace(&mut self.delayed, false) && self.aside.clear() {
                (self.tell)(Told::CaughtUp);
            }
        }
        Ok(())
    }

    /// Writes the backlog to the spool file.
    fn put_aside(&mut self, error: StoreError) -> Result<()> {
        self.delayed = true;
        tracing::warn!(reason = %error, turns = self.backlog.len(), "database is busy, turns go to the spool file");
        let backlog = std::mem::take(&mut self.backlog);
        let is_first = !self.aside.is_there();
        let kept = self.aside.write(&backlog, self.store.as_ref());
        let standing = match &kept {
            Ok(path) => Standing::Aside(path.clone()),
            Err(_) => Standing::Lost(error.clone()),
        };
        self.stand(&backlog, &standing);
        self.backlog = backlog;
        match kept {
            Ok(path) => {
                if is_first {
                    (self.tell)(Told::Delayed(error, path));
                }
                Ok(())
            }
            Err(_) => Err(error),
        }
    }

    fn stand(&self, records: &[TurnRecord], standing: &Standing) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            standings.insert(record.conversation.clone(), standing.clone());
        }
    }
}
