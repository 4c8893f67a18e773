//! The store behind a thread of its own, for a front end that must never wait for a disk or for another program's lock.
//! What the database does not take at the moment is kept in a file beside it, and stored as soon as it can be.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::spool::Aside;
use super::{Result, Store, StoreError, TurnRecord, open};
use crate::conversation::ConversationId;

/// How long a lock of another program is waited for, once: afterwards every call tries and does not wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often turns that are not stored yet are tried again.
const RETRY: Duration = Duration::from_millis(250);

type Ask = Box<dyn FnOnce(Result<&mut Store>) + Send>;
type Done = Box<dyn FnOnce(Result<()>) + Send>;

enum Job {
    Ask(Ask),
    Save(Box<TurnRecord>, Done),
}

/// What the thread tells by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Something about how the store was found: a damaged file was set aside, for example.
    Notice(String),
    /// The store cannot be opened; waiting would change nothing.
    Refused,
    /// Turns cannot be stored for this reason, and are kept in this file until they can.
    Delayed(StoreError, PathBuf),
    /// All of them are stored now.
    CaughtUp,
}

/// Where the turns of a conversation are that this process saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On their way to the disk.
    Queued,
    /// In the database.
    Stored,
    /// Some are in this file, from which the next start stores them.
    Aside(PathBuf),
    /// Some are nowhere.
    Lost(StoreError),
}

type Standings = Arc<Mutex<HashMap<ConversationId, Standing>>>;

/// A queue of jobs for the thread that owns the store. Dropping it waits until every job is done.
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
            delayed: false,
            standings: standings.clone(),
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || recorder.run(&queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), standings })
    }

    /// Queues a job and returns at once. The job gets the store, or why there is none; it reports by what it captured.
    pub fn run(&self, job: impl FnOnce(Result<&mut Store>) + Send + 'static) {
        self.send(Job::Ask(Box::new(job)));
    }

    /// Queues a turn to be written down and returns at once. `done` hears whether it is on disk: in the database, or in
    /// a file from which it is stored later (the thread tells `Delayed` then).
    pub fn save(&self, record: TurnRecord, done: impl FnOnce(Result<()>) + Send + 'static) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.entry(record.conversation.clone()).or_insert(Standing::Queued);
        drop(standings);
        self.send(Job::Save(Box::new(record), Box::new(done)));
    }

    /// Where the turns of this conversation are; `None`: none was saved.
    pub fn standing(&self, conversation: &ConversationId) -> Option<Standing> {
        standing(&self.standings, conversation)
    }

    /// Asks for [`Self::standing`] also after this handle is gone.
    pub fn standings(&self) -> impl Fn(&ConversationId) -> Option<Standing> + use<> {
        let standings = self.standings.clone();
        move |conversation| standing(&standings, conversation)
    }

    /// Lets the thread finish its jobs, and waits at most `patience` for it.
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
            // The thread ends only after this handle.
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

/// The thread's side.
struct Recorder {
    data_dir: PathBuf,
    tell: Box<dyn FnMut(Told) + Send>,
    store: Option<Store>,
    /// Why it cannot be opened; a lock of another program is no such reason.
    refused: Option<StoreError>,
    /// What opening the store took of the patience for the first save.
    waited: Duration,
    /// Turns that the database does not have, or not as they are now; in the order in which they were asked.
    backlog: Vec<TurnRecord>,
    aside: Aside,
    /// Whether the last attempt failed: the next ones do not wait.
    delayed: bool,
    standings: Standings,
}

impl Recorder {
    fn run(mut self, queue: &Receiver<Job>) {
        let start = Instant::now();
        // Every job asks again for a store that another program has locked.
        self.delayed = self.open(PATIENCE).is_err();
        self.waited = start.elapsed();
        loop {
            let job = if self.backlog.is_empty() || self.refused.is_some() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(RETRY)
            };
            match job {
                Ok(Job::Save(record, done)) => done(self.save(*record)),
                Ok(Job::Ask(job)) => {
                    let patience = self.patience();
                    job(self.open(patience));
                }
                Err(RecvTimeoutError::Timeout) => drop(self.flush(Duration::ZERO)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What is left is in the file beside the database.
        drop(self.flush(Duration::ZERO));
    }

    fn patience(&mut self) -> Duration {
        let waited = std::mem::take(&mut self.waited);
        if self.delayed { Duration::ZERO } else { PATIENCE.saturating_sub(waited) }
    }

    /// The store, opened if it is not; waits about `patience` for other programs.
    fn open(&mut self, patience: Duration) -> Result<&mut Store> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.store.is_none() {
            match open::open(&self.data_dir, patience) {
                Ok(opened) => {
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

    /// Stores what is not stored yet, the oldest turn first: later ones name it as the one that they follow.
    fn flush(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while let Some(record) = self.backlog.first().cloned() {
            let left = patience.saturating_sub(start.elapsed());
            let saved = self.open(left)?.save(&record, left);
            match saved {
                // The conversation was removed meanwhile: its turns belong nowhere.
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
            if std::mem::replace(&mut self.delayed, false) && self.aside.clear() {
                (self.tell)(Told::CaughtUp);
            }
        }
        Ok(())
    }

    /// Writes what is not stored to the file beside the database.
    fn put_aside(&mut self, error: StoreError) -> Result<()> {
        self.delayed = true;
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
