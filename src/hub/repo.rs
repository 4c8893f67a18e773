//! A repository's model: from the cache, else over the network. The asynchronous part runs on a small runtime of its
//! own, so that whoever asks just blocks.

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

/// The longest that the hub's first answer may take.
const SLOWEST_ANSWER: Duration = Duration::from_secs(60);

/// What is wanted of which repository.
pub(super) struct Request<'a> {
    pub(super) repo: &'a str,
    pub(super) pick: &'a Pick,
    /// SHA-256 of the only file, where the catalogue knows it.
    pub(super) sha256: Option<&'a str>,
    /// Another source follows, so a hub that is slow to answer is not waited for.
    pub(super) in_haste: bool,
}

/// The model in the cache, where all of it is there.
pub(super) fn cached(options: &HubOptions, repo: &str, pick: &Pick) -> Option<Cached> {
    RepoCache::new(&options.cache_dir, repo).find(pick)
}

/// Fetches what of the model is missing.
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
    // A name that is still being looked up must not hold us back.
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

/// One line about the files whose hash nobody told; `None` where there are none.
fn unverified(hub: &Hub, repo: &str, wanted: &[Wanted<'_>]) -> Option<String> {
    let files: Vec<_> = wanted.iter().filter(|file| file.expected().is_none()).map(|file| file.file).collect();
    let (first, others) = files.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(format!(
        "{} tells no hash of {first}{more} of {repo}: the content is unverified, only its size was compared",
        hub.address
    ))
}

/// The first answer decides whether the hub can be reached.
async fn first_answer(
    hub: &Hub,
    request: &Request<'_>,
    answer: impl Future<Output = Result<Listing, EngineError>>,
) -> Result<Listing, EngineError> {
    // Even where nothing else follows, a server that dribbles must not hold the user up for ever.
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
