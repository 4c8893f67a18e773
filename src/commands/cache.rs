//! `chatnap cache`: manages the answers that `--cache` finds.

use crate::failure::Failure;
use crate::output::{self, Reader};
use crate::settings::Settings;
use crate::store::Store;
use crate::wording::plural;

/// Forgets which requests the stored answers belong to.
pub(super) fn clear(settings: &Settings) -> Result<Reader, Failure> {
    let count = match Store::open_to_read(&settings.data_dir)? {
        Some(_) => Store::open(&settings.data_dir)?.store.clear_cache()?,
        None => 0,
    };
    output::write(&format!("{count} {} removed from the cache; the conversations stay.\n", plural(count, "answer")))
}
