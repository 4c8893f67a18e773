//! The usage as JSON. What is not known is `null`.

use serde_json::{Value, json};

use crate::protocol::{DeviceInfo, IdleWindow};
use crate::settings::format_idle_window;
use crate::usage::{Figures, Held, ModelUse, Prices, Replayed};

pub(super) fn object(figures: &Figures) -> Value {
    let used = &figures.used;
    let (money, always_on, known) = (&figures.money, used.period.length(), figures.knows_held());
    json!({
        "period": {
            "from_ms": used.period.from_ms,
            "to_ms": used.period.to_ms,
            "seconds": rounded(always_on.as_secs_f64()),
        },
        "answers": used.total.answers,
        "from_cache": used.total.repeated,
        "usage": tokens(&used.total),
        "models": used.models.iter().map(|entry| model(entry, known)).collect::<Vec<_>>(),
        "loads": known.then_some(used.total.held.loads),
        "releases": known.then_some(used.total.held.releases),
        "loads_recorded_from_ms": figures.loads_from_ms,
        "gpu": known.then(|| held(&used.gpu, always_on.as_secs_f64(), figures.lacks_loads())),
        "cpu": known.then(|| held(&used.cpu, always_on.as_secs_f64(), figures.lacks_loads())),
        "money": {
            "held": known.then(|| rounded(money.held)),
            "held_is_lower_bound": used.gpu.open > 0 || figures.lacks_loads(),
            "always_on": rounded(money.always_on),
            "tokens": rounded(money.tokens),
            "servers": money.servers.map(rounded),
            "unpriced_answers": money.unpriced,
        },
        "prices": prices(&figures.prices, used.period.to_ms),
        "idle_window": figures.advice.as_ref().map(|advice| json!({
            "windows": advice.windows.iter().map(window).collect::<Vec<_>>(),
            // On a CPU held memory has no price, so that the longest window would always be the cheapest.
            "cheapest": figures.on_gpu.then(|| format_idle_window(advice.cheapest.window)),
        })),
    })
}

/// To a thousandth of a cent.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round() / 1e5
}

/// `null` where no answer was counted.
fn tokens(entry: &ModelUse) -> Value {
    if entry.counted == 0 && entry.answers > entry.repeated {
        return Value::Null;
    }
    const NAMES: [&str; 4] = ["prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens"];
    // Without a counted answer all were stored ones, which used none.
    let sums = entry.sums().map(|sum| if entry.counted == 0 { Some((0, false)) } else { sum });
    let named = NAMES.iter().zip(sums);
    let mut object: serde_json::Map<_, _> =
        named.clone().map(|(name, sum)| ((*name).to_owned(), json!(sum.map(|(sum, _)| sum)))).collect();
    let least: Vec<_> =
        named.filter(|(_, sum)| sum.is_some_and(|(_, is_least)| is_least)).map(|(name, _)| name).collect();
    if !least.is_empty() {
        object.insert("lower_bounds".into(), json!(least));
    }
    Value::Object(object)
}

fn model(entry: &ModelUse, known: bool) -> Value {
    json!({
        "model": entry.model,
        "device": entry.device.as_ref().map(device),
        "answers": entry.answers,
        "from_cache": entry.repeated,
        "usage": tokens(entry),
        "loads": known.then_some(entry.held.loads),
        "releases": known.then_some(entry.held.releases),
        "held_seconds": known.then(|| rounded(entry.held.time.as_secs_f64())),
    })
}

fn device(device: &DeviceInfo) -> Value {
    json!({"kind": device.kind, "name": device.name})
}

fn held(held: &Held, always_on: f64, lacks_loads: bool) -> Value {
    let seconds = held.time.as_secs_f64();
    json!({
        "loads": held.loads,
        "releases": held.releases,
        "held_seconds": rounded(seconds),
        "held_is_lower_bound": held.open > 0 || lacks_loads,
        "always_on_seconds": rounded(always_on),
        "share": (always_on > 0.0).then(|| rounded(seconds / always_on)),
        "gigabyte_seconds": held.byte_seconds.map(|bytes| rounded(bytes / 1e9)),
        "energy_joules": held.energy_mj.map(|energy| energy as f64 / 1000.0),
    })
}

fn prices(prices: &Prices, now_ms: u64) -> Value {
    json!({
        "currency": prices.currency,
        "gpu_hour": prices.gpu_hour,
        "input_tokens": prices.input_tokens,
        "output_tokens": prices.output_tokens,
        "waiting_hour": prices.waiting_hour,
        "servers": servers(prices),
        "source": prices.source,
        "date": prices.date,
        "stale": prices.date.as_ref().map(|_| prices.is_stale(now_ms)),
    })
}

fn servers(prices: &Prices) -> Value {
    let each = prices.servers.iter();
    each.map(|(name, price)| (name.clone(), json!({"input_tokens": price.input, "output_tokens": price.output})))
        .collect()
}

fn window(replayed: &Replayed) -> Value {
    json!({
        "window": format_idle_window(replayed.window),
        "window_seconds": match replayed.window {
            IdleWindow::After(window) => Some(window.as_secs()),
            IdleWindow::Never => None,
        },
        "loads": replayed.loads,
        "waited_seconds": rounded(replayed.waited.as_secs_f64()),
        "held_seconds": rounded(replayed.held.as_secs_f64()),
        "cost": rounded(replayed.cost),
    })
}
