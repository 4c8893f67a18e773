//! The usage as CSV: one line for each model on each device. What is not known is an empty field.

use crate::protocol::DeviceKind;
use crate::sanitize::sanitize_line;
use crate::usage::{Figures, ModelUse};

const HEAD: &str = "model,device_kind,device,answers,prompt_tokens,cached_tokens,completion_tokens,loads,releases,\
                    held_seconds,held_is_lower_bound,energy_joules";

pub(super) fn render(figures: &Figures) -> String {
    let lines = figures.used.models.iter().map(|entry| line(entry, figures));
    std::iter::once(format!("{HEAD}\n")).chain(lines).collect()
}

fn line(entry: &ModelUse, figures: &Figures) -> String {
    let [prompt, cached, completion, _] = entry.sums().map(|sum| sum.map_or(String::new(), |(sum, _)| sum.to_string()));
    let known = |figure: String| if figures.knows_held() { figure } else { String::new() };
    let kind = entry.device.as_ref().map(|device| match device.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Cuda => "cuda",
        DeviceKind::Server => "server",
    });
    let held = &entry.held;
    let fields = [
        text(&entry.model),
        kind.unwrap_or_default().to_owned(),
        text(entry.device.as_ref().map_or("", |device| &device.name)),
        entry.answers.to_string(),
        prompt,
        cached,
        completion,
        known(held.loads.to_string()),
        known(held.releases.to_string()),
        known(format!("{:.3}", held.time.as_secs_f64())),
        known((held.open > 0 || figures.lacks_loads()).to_string()),
        held.energy_mj.map(|energy| format!("{:.3}", energy as f64 / 1000.0)).unwrap_or_default(),
    ];
    fields.join(",") + "\n"
}

/// A name in quotes where it needs them. A spreadsheet runs what begins like a formula, so that such a name gets an
/// apostrophe.
fn text(name: &str) -> String {
    let name = sanitize_line(name);
    let name = if name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name };
    if name.contains([',', '"']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_are_no_formulas() {
        let names = ["qwen3-0.6b", "a,b", "say \"x\"", "=1+1", "-m"].map(text);
        assert_eq!(names, ["qwen3-0.6b", "\"a,b\"", "\"say \"\"x\"\"\"", "'=1+1", "'-m"]);
    }
}
