//! A repository's model: from the cache, else over the network. The asynchronous part runs on its own current-thread
//! runtime; the calling thread blocks.

use std::future::Future;
use std::time::Duration;

use super::cache::{Cached, RepoCache};
use super::fetch::{Wanted, fetch};
use super::job::{Job, TICK};
use super::name::Pick;
use super::not_found;
use super::options::HubOptions;
use super::pick::{Choice, choose};
use super::remote::{Hub, Listing, Trouble, unreachable};
use crate::protocol::*;

/// Timeout of the hub's first answer, and of each `HEAD` request for a file.
const SLOWEST_ANSWER: Duration = Duration::from_secs(60);

/// A request for one model of a repository.
pub(super) struct Request<'a> {
    pub(super) repo: &'a str,
    pub(super) pick: &'a Pick,
    /// SHA-256 of the model's only file, if the catalogue has it.
    pub(super) sha256: Option<&'a str>,
    /// Another source follows, so the first answer must arrive within `Patience::answer`.
    pub(super) in_haste: bool,
}

/// The model in the cache, if all its files are there.
pub(super) fn cached(options: &HubOptions, repo: &str, pick: &Pick) -> Option<Cached> {
    RepoCache::new(&options.cache_dir, repo).find(pick)
}

/// Fetches the missing files of the model.
pub(super) fn fetch_model(
    options: &HubOptions,
    request: &Request<'_>,
    job: &mut Job<'_>,
) -> Result<Cached, EngineError> {
    let hub = Hub::new(options.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| not_found(format!("Cannot start a download: {error}.")))?;
    let cancel = job.cancel_flag();
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(TICK).await;
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancelled => None,
            result = fetch_all(&hub, request, job) => Some(result),
        }
    });
    // Do not wait for a DNS lookup that still runs on the runtime's blocking thread.
    runtime.shutdown_background();
    result.unwrap_or_else(|| Err(job.cancelled()))
}

async fn fetch_all(hub: &Hub, request: &Request<'_>, job: &mut Job<'_>) -> Result<Cached, EngineError> {
    let Request { repo, pick, .. } = *request;
    job.report(LoadPhase::Download, 0, None, repo);
    let listing = first_answer(hub, request, hub.listing(repo)).await?;
    let choice = choose(&listing.files, pick)
        .map_err(|why| not_found(format!("{repo} on {} does not fit: {why}.", hub.address)))?;
    let cache = RepoCache::new(&hub.options.cache_dir, repo);
    let mut wanted = describe_all(hub, request, &listing, &choice).await?;
    let mut before = 0;
    let total = wanted.iter().map(|file| file.remote.size).fold(0, u64::saturating_add);
    for file in &mut wanted {
        (file.before, file.total) = (before, total);
        fetch(hub, &cache, file, job).await?;
        before += file.remote.size;
    }
    job.warnings.extend(unverified(hub, repo, &wanted));
    Ok(Cached { snapshot: cache.snapshot(&listing.commit), choice })
}

/// A warning about the files without a known hash; `None` if there are none.
fn unverified(hub: &Hub, repo: &str, wanted: &[Wanted<'_>]) -> Option<String> {
    let files: Vec<_> = wanted.iter().filter(|file| file.expected().is_none()).map(|file| file.file).collect();
    let (first, others) = files.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(format!(
        "{} gives no hash of {first}{more} of {repo}: the content is unverified, only its size was compared",
        hub.address
    ))
}

/// Awaits the first answer with a timeout; it decides whether the hub is reachable.
async fn first_answer(
    hub: &Hub,
    request: &Request<'_>,
    answer: impl Future<Output = Result<Listing, EngineError>>,
) -> Result<Listing, EngineError> {
    // A timeout even without another source: each byte resets the read timeout, so a slow server could block for ever.
    let patience = hub.options.patience.answer.max(if request.in_haste { Duration::ZERO } else { SLOWEST_ANSWER });
    tokio::time::timeout(patience, answer)
        .await
        .unwrap_or_else(|_| Err(unreachable(&hub.address, "it does not answer in time")))
}

async fn describe_all<'a>(
    hub: &Hub,
    request: &Request<'a>,
    listing: &'a Listing,
    choice: &'a Choice,
) -> Result<Vec<Wanted<'a>>, EngineError> {
    let mut wanted = Vec::new();
    for file in choice.files() {
        let described = tokio::time::timeout(SLOWEST_ANSWER, hub.describe(request.repo, &listing.commit, file)).await;
        let remote = match described {
            Ok(Ok(remote)) => remote,
            Ok(Err(Trouble::Final(error))) => return Err(error),
            Ok(Err(Trouble::Again { why, .. })) => return Err(unreachable(&hub.address, &why)),
            Err(_) => return Err(unreachable(&hub.address, "it does not answer in time")),
        };
        let sha256 = request.sha256.filter(|_| choice.files().len() == 1);
        wanted.push(Wanted { repo: request.repo, commit: &listing.commit, file, remote, sha256, before: 0, total: 0 });
    }
    Ok(wanted)
}
