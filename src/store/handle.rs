//! The store behind a thread of its own, for an interface that must never wait for a disk.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::{Store, StoreError};

type Job = Box<dyn FnOnce(Result<&mut Store, &StoreError>) + Send>;

/// A queue of jobs for the thread that owns the store. Dropping it waits until every job is done.
pub struct StoreHandle {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreHandle {
    /// Starts the thread, which opens the store in `data_dir` and tells `opened` how that went: a notice where
    /// something had to be repaired, or why nothing can be stored.
    pub fn start(
        data_dir: PathBuf,
        opened: impl FnOnce(Result<Option<String>, &StoreError>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || {
            let mut store = match Store::open(&data_dir) {
                Ok(found) => {
                    opened(Ok(found.notice));
                    Ok(found.store)
                }
                Err(error) => {
                    opened(Err(&error));
                    Err(error)
                }
            };
            for job in queue {
                job(store.as_mut().map_err(|error| &*error));
            }
        };
        let thread = std::thread::Builder::new().name("store".into()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job and returns at once. The job gets the store, or why there is none; it reports by what it captured.
    pub fn run(&self, job: impl FnOnce(Result<&mut Store, &StoreError>) + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this handle.
            let _ = jobs.send(Box::new(job));
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
