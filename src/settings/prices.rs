//! The config file's table `[prices]`, with which `chatnap usage` counts.

use toml::de::DeValue;

use crate::usage::Prices;
use crate::wording::nearest;

/// The key of the table.
pub(super) const PRICES: &str = "prices";

const KEYS: [&str; 7] = ["gpu_hour", "input_tokens", "output_tokens", "waiting_hour", "currency", "source", "date"];

/// Reads the table. An error is the offset in the file and the message, without the file's name.
pub(super) fn read(value: &DeValue<'_>, at: usize) -> Result<Prices, (usize, String)> {
    let DeValue::Table(table) = value else {
        return Err((at, format!("prices: a table [prices] is wanted here, not a TOML {}", value.type_str())));
    };
    // The built-in source and date are those of the built-in prices.
    let mut prices = Prices { source: "the config file".into(), date: None, ..Prices::default() };
    for (key, value) in table {
        let (at, name) = (key.span().start, key.get_ref().as_ref());
        set(&mut prices, name, value.get_ref()).map_err(|why| (at, format!("prices.{name}: {why}")))?;
    }
    Ok(prices)
}

fn set(prices: &mut Prices, name: &str, value: &DeValue<'_>) -> Result<(), String> {
    match name {
        "gpu_hour" => prices.gpu_hour = price(value)?,
        "input_tokens" => prices.input_tokens = price(value)?,
        "output_tokens" => prices.output_tokens = price(value)?,
        "waiting_hour" => prices.waiting_hour = price(value)?,
        "currency" => prices.currency = text(value)?,
        "source" => prices.source = text(value)?,
        "date" => prices.date = Some(date(value)?),
        _ => {
            return Err(match nearest(&name.replace('-', "_"), KEYS.into_iter()) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; known are {}", KEYS.join(", ")),
            });
        }
    }
    Ok(())
}

pub(super) fn price(value: &DeValue<'_>) -> Result<f64, String> {
    let digits = match value {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        other => return Err(format!("a number is wanted here, not a TOML {}", other.type_str())),
    };
    let price = digits.parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("a number of 0 or more is wanted, not {digits}"))
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(format!("a text in quotes is wanted here, not a TOML {}", other.type_str())),
    }
}

/// A day, written as a text or as a TOML date.
fn date(value: &DeValue<'_>) -> Result<String, String> {
    let day = match value {
        DeValue::Datetime(time) => time.to_string(),
        other => text(other)?,
    };
    match day.parse::<jiff::civil::Date>() {
        Ok(date) => Ok(date.to_string()),
        Err(_) => Err(format!("a day such as 2026-11-01 is wanted, not {day:?}")),
    }
}
