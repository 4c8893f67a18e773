//! The usage as text: tables with a sentence each.

use std::io::IsTerminal;
use std::time::Duration;

use crate::cli::args::TableFormat;
use crate::commands::table::Table;
use crate::output;
use crate::protocol::{DeviceInfo, DeviceKind};
use crate::sanitize::sanitize_line;
use crate::settings::format_idle_window;
use crate::usage::{Figures, Held, ModelUse, span};
use crate::wording::{count, local, plural, utc};

pub(super) fn render(figures: &Figures) -> String {
    let used = &figures.used;
    if used.total.answers == 0 && used.models.is_empty() {
        return "No answer is stored in this time. `chatnap usage` counts answers and loads from the next one on.\n"
            .into();
    }
    let (from, to) = (used.period.from_ms, used.period.to_ms);
    let shown = if std::io::stdout().is_terminal() { local } else { utc };
    let head = format!("{} to {}, {}\n\n", shown(from), shown(to), span(used.period.length()));
    [head, models(figures), held(figures), money(figures), windows(figures)].concat()
}

fn text(table: &Table) -> String {
    table.render_within(output::columns(), TableFormat::Table, &serde_json::Value::Null)
}

fn models(figures: &Figures) -> String {
    let head = ["model", "device", "answers", "prompt", "cached", "completion", "total"];
    let mut table = Table::new(&head).yielding(&[("device", 8), ("model", 12)]);
    for entry in &figures.used.models {
        table.row(model(&entry.model, &device(entry.device.as_ref()), entry));
    }
    if figures.used.models.len() > 1 {
        table.row(model("all", "", &figures.used.total));
    }
    let again = match figures.used.total.repeated {
        0 => String::new(),
        1 => "1 of the answers was a stored one, printed again without a model.\n".into(),
        some => format!("{some} of the answers were stored ones, printed again without a model.\n"),
    };
    text(&table) + &again + "\n"
}

fn model(name: &str, device: &str, entry: &ModelUse) -> [String; 7] {
    let [prompt, cached, completion, total] = entry.sums().map(|sum| match sum {
        None => "-".to_owned(),
        Some((sum, false)) => count(sum),
        Some((sum, true)) => format!("≥ {}", count(sum)),
    });
    [name.to_owned(), device.to_owned(), count(entry.answers), prompt, cached, completion, total]
}

fn device(device: Option<&DeviceInfo>) -> String {
    match device {
        None => "-".into(),
        Some(device) if !device.name.is_empty() => device.name.clone(),
        Some(device) if device.kind == DeviceKind::Cpu => "CPU".into(),
        Some(device) if device.kind == DeviceKind::Server => "server".into(),
        Some(_) => "GPU".into(),
    }
}

fn held(figures: &Figures) -> String {
    let used = &figures.used;
    let mut table = Table::new(&["memory", "loads", "releases", "held", "always on", "share", "GB·h", "energy"]);
    for (name, held) in [("GPU", &used.gpu), ("CPU", &used.cpu)] {
        if *held != Held::default() {
            table.row(row(name, held, used.period.length()));
        }
    }
    if !figures.knows_held() {
        return "No load is stored, so it is not known how long memory was held; loads count from the next one on.\n\n"
            .into();
    }
    if used.gpu == used.cpu {
        return "Nothing was loaded in this time.\n\n".into();
    }
    let mut said = text(&table);
    let open = used.gpu.open + used.cpu.open;
    if open > 0 {
        said += &format!(
            "\"at least\": the end of {open} {} is not known; each counts up to the last time that it was seen.\n",
            plural(open, "load")
        );
    }
    if let Some(from) = figures.loads_from_ms.filter(|_| figures.lacks_loads()) {
        said += &format!("Loads are stored since {}; those of earlier answers are missing.\n", utc(from));
    }
    said + "\n"
}

fn row(name: &str, held: &Held, always_on: Duration) -> [String; 8] {
    let least = if held.open > 0 { "at least " } else { "" };
    let share = held.time.as_secs_f64() / always_on.as_secs_f64();
    [
        name.to_owned(),
        held.loads.to_string(),
        held.releases.to_string(),
        format!("{least}{}", span(held.time)),
        span(always_on),
        if share.is_finite() { format!("{:.2} %", share * 100.0) } else { "-".into() },
        held.byte_seconds.map_or("-".into(), |bytes| format!("{:.3}", bytes / 1e9 / 3600.0)),
        held.energy_mj.map_or("-".into(), |energy| format!("{:.2} Wh", energy as f64 / 3.6e6)),
    ]
}

fn money(figures: &Figures) -> String {
    let (money, prices) = (&figures.money, &figures.prices);
    let currency = sanitize_line(&prices.currency);
    let least = if figures.used.gpu.open > 0 || figures.lacks_loads() { "at least " } else { "" };
    let held = if figures.knows_held() { format!("{least}{:.4} {currency}", money.held) } else { "not known".into() };
    let mut table = Table::new(&["what it costs", ""]);
    let mut line = |name: &str, amount: String| table.row([name.to_owned(), amount]);
    line("the GPU time that was held", held);
    line("one GPU, always on", format!("{:.2} {currency}", money.always_on));
    line("the same tokens at token prices", format!("{:.4} {currency}", money.tokens));
    if let Some(took) = money.servers {
        line("servers, at their own prices", format!("{took:.4} {currency}"));
    }
    let source = sanitize_line(&figures.source());
    let unpriced = match money.unpriced {
        0 => String::new(),
        some => format!(
            "{some} {} of servers without a price or without counts (input_tokens and output_tokens in [server.NAME]).\n",
            plural(some, "answer")
        ),
    };
    format!(
        "{}Prices: {} {currency} an hour of one GPU, {} and {} a million prompt and answer tokens ({source}).\n{unpriced}\n",
        text(&table),
        prices.gpu_hour,
        prices.input_tokens,
        prices.output_tokens,
    )
}

fn windows(figures: &Figures) -> String {
    let Some(advice) = &figures.advice else {
        return "No advice on the idle window: no load was measured yet.\n".into();
    };
    let currency = sanitize_line(&figures.prices.currency);
    let mut table = Table::new(&["idle window", "loads", "waited for loads", "held", "cost"]);
    for replayed in &advice.windows {
        table.row([
            format_idle_window(replayed.window),
            count(replayed.loads),
            span(replayed.waited),
            span(replayed.held),
            format!("{:.4} {currency}", replayed.cost),
        ]);
    }
    let waiting = format!("{} {currency} an hour of waiting (waiting_hour in [prices])", figures.prices.waiting_hour);
    let said = if figures.on_gpu {
        format!(
            "Your questions, replayed with each window. Cheapest at {waiting}: idle_window = \"{}\" in the config.\n",
            format_idle_window(advice.cheapest.window)
        )
    } else {
        format!(
            "Your questions, replayed with each window, at {waiting}. No GPU answered, and memory of the CPU has no \
             price: take the longest window whose memory you can spare (idle_window in the config).\n"
        )
    };
    text(&table) + &said
}
