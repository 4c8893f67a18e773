//! The flags of the subcommands that measure: `usage`, `report`, `compare`, `replay` and `cache`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum, ValueHint};

use super::{TableFormat, repeat, setting};
use crate::settings::parse_duration;

/// `chatnap usage …`
#[derive(Debug, clap::Args)]
#[command(after_help = USAGE_HELP)]
pub struct UsageArgs {
    /// Only what was asked in this time (7d, 24h, 30m), or since this day (2026-11-01); default everything that is stored
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: UsageFormat,
}

const USAGE_HELP: &str = "\
Counts what is stored: answers with --no-save and those of removed conversations, once the trash is emptied, are missing.
Prices come from [prices] in the config file; `chatnap config default` shows its keys.

Examples:
  chatnap usage                              everything
  chatnap usage --since 7d                   the last seven days
  chatnap usage --since 2026-11-01 --format csv > november.csv";

/// Begin of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This long before now.
    Ago(Duration),
    /// The first moment of this day in the system's time zone.
    Day(jiff::civil::Date),
}

impl Since {
    /// Parses `7d`, `24h`, `30m` or `2026-11-01`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let day = || text.parse().ok().map(Self::Day);
        let found = parse_duration(text).map(Self::Ago).or_else(day);
        found.ok_or_else(|| "a time such as 7d, 24h or 30m, or a day such as 2026-11-01 is wanted".into())
    }
}

/// Output format of the usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UsageFormat {
    /// Aligned columns.
    #[default]
    Table,
    /// One object with everything.
    Json,
    /// One line for each model on each device.
    Csv,
}

/// Shown behind the flags of `chatnap report`.
const REPORT_EXAMPLES: &str = "\
Examples:
  chatnap report                                 the built-in scenarios, with the default model
  chatnap report -m qwen3-1.7b --run-code --out report/
                                                 report.md, report.json and charts; runs the answers' code
  chatnap report --repeat 20 --temperature 0.8 --seed 1
                                                 pass rates with their 95 % intervals
  chatnap report --scenarios mine.toml --format json

The built-in file, assets/scenarios.toml in the source, describes its form. Answers are not stored.";

/// `chatnap report …`
#[derive(Debug, clap::Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// Scenarios and checks; default the built-in ones
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub scenarios: Option<PathBuf>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: TableFormat,
    /// Write report.md, report.json and charts (SVG) into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Run the Python code of answers, with limits, as your user
    #[arg(long)]
    pub run_code: bool,
    /// How often each scenario is played; more than once gives pass rates with their intervals
    #[arg(long, value_name = "N", default_value = "1", value_parser = repeat)]
    pub repeat: usize,
    /// Seed of the first repetition, where the temperature is above 0; each further one adds 1
    #[arg(long, value_name = "N", value_parser = setting("seed"), allow_hyphen_values = true)]
    pub seed: Option<String>,
    /// Temperature of the answers; 0 is greedy and reproducible
    #[arg(long, value_name = "F", default_value = "0", value_parser = setting("temperature"), allow_hyphen_values = true)]
    pub temperature: String,
    /// Read the model from the disk: drop it from the page cache before the first load
    #[arg(long)]
    pub drop_caches: bool,
}

/// `chatnap compare …`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// Two files that `chatnap report` wrote (report.json), instead of models
    #[arg(value_name = "REPORT", num_args = 0..=2, value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["model", "prompt", "scenarios", "a", "b", "set"])]
    pub reports: Vec<PathBuf>,
    /// A model, as elsewhere; given twice: A and B
    #[arg(id = "model", short = 'm', long = "model", value_name = "NAME", value_parser = setting("model"))]
    pub models: Vec<String>,
    /// Ask this
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Play the scenarios of `chatnap report`, or those of FILE, at temperature 0
    #[arg(long, value_name = "FILE", num_args = 0..=1, value_hint = ValueHint::FilePath, conflicts_with = "prompt")]
    pub scenarios: Option<Option<PathBuf>>,
    /// A setting of A alone, with a key of the config file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub a: Vec<String>,
    /// A setting of B alone
    #[arg(long, value_name = "KEY=VALUE")]
    pub b: Vec<String>,
    /// A setting of both
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: TableFormat,
}

/// `chatnap replay …`
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The beginning of a conversation's id, or `last`; `:N` names its Nth turn, counted in the order in which they were
    /// asked. Default the last turn of the branch that is shown
    #[arg(value_name = "ID[:TURN]")]
    pub id: String,
    /// Every answer of the conversation
    #[arg(long)]
    pub all: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: TableFormat,
}

const COMPARE_HELP: &str = "\
One model is in memory at a time: A is loaded, answers and is released, then B. Both get the same seed.

Examples:
  chatnap compare -m qwen3-0.6b -m llama-3.2-1b -p 'Why is the sky blue?'
  chatnap compare -m qwen3-0.6b --a temperature=0 --b temperature=1 -p 'Write a haiku.'
  chatnap compare -m qwen3-0.6b --a device=cpu --b device=cuda --set max_tokens=100 -p 'Hello!'
  chatnap compare -m qwen3-0.6b -m qwen3-1.7b --scenarios
  chatnap compare before/report.json after/report.json";
/// `chatnap cache …`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Forget all answers of the cache; the conversations stay
    Clear,
}
