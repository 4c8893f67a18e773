//! The line above the composer about a model that is not on disk: the offer to download it, or the download's progress.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{gauge, paint, units, wrap};
use crate::chat::{Chat, EngineState, Files, RecommendedModel, Switch, SwitchStage};
use crate::protocol::Offer;
use crate::sanitize::sanitize;
use crate::settings::AUTO;
use crate::tui::layout::Look;
use crate::wording::bytes;

/// Draws the line, unless the progress of a load has its place.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, chat: &Chat, look: &Look<'_>) {
    let is_loading = matches!(chat.engine.state, EngineState::Loading(_));
    if let Some(line) = line(chat, usize::from(area.width), look).filter(|_| !is_loading && !area.is_empty()) {
        paint::line(frame.buffer_mut(), area, &line);
    }
}

/// Whether there is a line to draw. The welcome shows the offer of an empty transcript.
pub(in crate::tui) fn is_shown(chat: &Chat) -> bool {
    let welcomes = chat.feed.entries().is_empty() && chat.supply.change.is_none();
    chat.supply.fetch.is_some() || chat.supply.change.is_some() || (chat.offer().is_some() && !welcomes)
}

/// The line in `width` cells, in the longest form that fits.
fn line(chat: &Chat, width: usize, look: &Look<'_>) -> Option<Line<'static>> {
    if let Some(fetch) = &chat.supply.fetch {
        let name = units::short_name(&fetch.model);
        return Some(gauge::line(&fetch.loading, &name, chat, width, look));
    }
    if let Some((model, offer)) = chat.offer() {
        let text = longest(forms(chat, model, offer, look), width, look);
        return Some(Line::from(Span::styled(text, look.theme.hint)));
    }
    let Switch { model, stage } = chat.supply.change.as_ref()?;
    let model = units::short_name(model);
    let text = match stage {
        SwitchStage::Ready => format!(" {model} answers the next prompt"),
        _ => format!(" looking for {model}"),
    };
    Some(Line::from(Span::styled(wrap::clip(&text, width, look.glyphs.ellipsis), look.theme.dim)))
}

fn forms(chat: &Chat, model: &str, offer: &Offer, look: &Look<'_>) -> Vec<String> {
    let (model, dot) = (units::short_name(model), look.glyphs.dot);
    let (what, from) = (size(offer), sanitize(&offer.from));
    let no = match chat.is_offering_change() {
        true => format!(" {dot} Esc keeps {}", units::short_name(&chat.options.model)),
        false => String::new(),
    };
    vec![
        format!(" {model} is not on this machine: {what} from {from} {dot} Enter fetches it{no}"),
        format!(" {model} is not here: {what} from {from} {dot} Enter fetches it"),
        format!(" {model}: {what} from {from} {dot} Enter fetches it"),
        format!(" {model}: {what} {dot} Enter fetches it"),
        format!(" Enter fetches {model}: {what}"),
        format!(" Enter fetches {what}"),
    ]
}

fn longest(forms: Vec<String>, width: usize, look: &Look<'_>) -> String {
    let last = forms.last().cloned().unwrap_or_default();
    let text = forms.into_iter().find(|form| wrap::width(form) <= width).unwrap_or(last);
    wrap::clip(&text, width, look.glyphs.ellipsis)
}

/// `98.4 MB`, `about 8.5 GB`, `an unknown size`.
pub(super) fn size(offer: &Offer) -> String {
    match offer.size {
        Some((size, true)) => bytes(size),
        Some((size, false)) => format!("about {}", bytes(size)),
        None => "an unknown size".to_owned(),
    }
}

/// The welcome's sentence about the model's files; `None` if they are on disk as far as is known, and none is recommended.
pub(super) fn welcome(chat: &Chat) -> Option<String> {
    if let Some(found) = chat.recommended() {
        return recommendation(chat, found);
    }
    if chat.engine.is_loaded() {
        return None;
    }
    if matches!(chat.supply.files, Files::Checking { .. }) && chat.options.model == AUTO {
        return Some("Looking for a model on this machine.".to_owned());
    }
    if chat.supply.fetches(&chat.options.model) {
        return Some("It is being fetched. What you send meanwhile waits for it; Esc stops.".to_owned());
    }
    let Files::Missing(offer) = &chat.supply.files else { return None };
    let warning = offer.warning.as_deref().map(|warning| format!(" {}", sanitize(warning))).unwrap_or_default();
    let from = sanitize(&offer.from);
    Some(format!("Enter fetches it: {} from {from}. It is not on this machine yet.{warning}", size(offer)))
}

/// What Enter fetches, and what answers meanwhile; `None` as long as the files of the current model are looked for.
fn recommendation(chat: &Chat, found: &RecommendedModel) -> Option<String> {
    let (model, own) = (units::short_name(&found.model), units::short_name(&chat.options.model));
    let (from, licence) = (sanitize(&found.offer.from), sanitize(&found.licence));
    let what =
        format!("Enter fetches {model}: {} from {from}, {licence}, recommended for this machine.", size(&found.offer));
    let meanwhile = match &chat.supply.files {
        Files::Missing(offer) => format!("First comes {own} ({}), which answers meanwhile.", size(offer)),
        Files::Here => format!("{own} answers meanwhile."),
        Files::Checking { .. } => return None,
    };
    Some(format!("{what} {meanwhile} F2 lists all models with their sizes."))
}

/// What a prompt that waits for the model's files waits for.
pub(super) fn waits_for(chat: &Chat) -> &'static str {
    match &chat.supply.files {
        _ if chat.supply.fetch.is_some() => "waiting for the download",
        Files::Missing(_) => "kept until the model is here: Enter fetches it",
        _ => "looking for the model",
    }
}
