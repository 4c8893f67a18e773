//! Reads the files of -f before anything else happens: one that cannot be attached ends the run.

use crate::conversation::Attachment;
use crate::failure::Failure;
use crate::files::text;

/// The files of -f in their order, each once.
pub(super) fn read(names: &[String]) -> Result<Vec<Attachment>, Failure> {
    let mut files: Vec<Attachment> = Vec::new();
    for name in names {
        if files.iter().all(|file| file.name != *name) {
            let text = text::read(name)
                .map_err(|refusal| Failure::usage(format!("-f: {name} {refusal}. Nothing was sent.")))?;
            files.push(Attachment { name: name.clone(), text });
        }
    }
    Ok(files)
}
