//! The clap definitions of flags and subcommands. Values of settings are validated here and kept as text; `settings`
//! parses them later, with the same rules.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum, ValueHint};

use crate::bench::Test;
use crate::settings::{Override, check};
use crate::store::Resume;

mod measuring;

pub use measuring::{CacheCommand, CompareArgs, ReplayArgs, ReportArgs, Since, UsageArgs, UsageFormat};

/// A terminal chat whose engine runs in the same process and releases its memory when idle.
///
/// Without -p and with a terminal on both ends, chatnap opens the chat. With -p, or with text on standard input, it
/// answers once and exits.
#[derive(Debug, Parser)]
#[command(name = "chatnap", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented on the struct")]
    pub chat: ChatFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented on the struct")]
    pub model: ModelFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented on the struct")]
    pub one_shot: OneShotFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented on the struct")]
    pub setup: SetupFlags,
    /// Subcommand; `None` is a chat or a one-shot answer.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER_HELP: &str = "\
Precedence: flag > environment (CHATNAP_MODEL, CHATNAP_IDLE_WINDOW, ... one for each setting) >
config file > default.
Exit codes: 0 answered, 1 failed, 2 usage, 3 the model was not found or could not be fetched,
4 out of memory, 5 the prompt does not fit the context, 130 interrupted.";

/// A value parser that validates by the rules of setting `key` and keeps the text.
fn setting(key: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |value| check(key, value)
}

/// Parses a number of measurements.
fn repeat(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1000).contains(number));
    number.ok_or_else(|| "a whole number from 1 to 1000 is wanted".into())
}

/// Prompt, conversation, sampling and look.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Chat")]
pub struct ChatFlags {
    /// Answer this and exit; text on standard input follows it after a blank line
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Attach a text file to the prompt; may be repeated
    #[arg(short, long = "file", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub files: Vec<String>,
    /// System message
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Continue the last conversation
    #[arg(short = 'c', long = "continue")]
    pub last: bool,
    /// Continue the conversation whose id begins with ID
    #[arg(long, value_name = "ID", conflicts_with = "last")]
    pub conversation: Option<String>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", value_parser = setting("max_tokens"), allow_hyphen_values = true)]
    pub max_tokens: Option<String>,
    /// 0 is greedy and reproducible
    #[arg(long, value_name = "F", value_parser = setting("temperature"), allow_hyphen_values = true)]
    pub temperature: Option<String>,
    /// Keep the smallest set of tokens whose probabilities reach F
    #[arg(long, value_name = "F", value_parser = setting("top_p"), allow_hyphen_values = true)]
    pub top_p: Option<String>,
    /// Keep the N likeliest tokens; 0 keeps all
    #[arg(long, value_name = "N", value_parser = setting("top_k"), allow_hyphen_values = true)]
    pub top_k: Option<String>,
    /// Keep tokens at least F times as likely as the likeliest
    #[arg(long, value_name = "F", value_parser = setting("min_p"), allow_hyphen_values = true)]
    pub min_p: Option<String>,
    /// Make recent tokens less likely; 1 changes nothing
    #[arg(long, value_name = "F", value_parser = setting("repeat_penalty"), allow_hyphen_values = true)]
    pub repeat_penalty: Option<String>,
    /// The same seed gives the same answer on the same device
    #[arg(long, value_name = "N", value_parser = setting("seed"), allow_hyphen_values = true)]
    pub seed: Option<String>,
    /// Have a model reason before it answers, if its template has a switch for that
    #[arg(long, value_name = "on|off", value_parser = setting("think"))]
    pub think: Option<String>,
    /// A conversation that outgrew the context: error refuses it, trim leaves out the oldest whole turns
    #[arg(long, value_name = "error|trim", value_parser = setting("on_overflow"))]
    pub on_overflow: Option<String>,
    /// Keep the engine's memory this long after an answer: 90s, 2m, 1h30m, 0 or never
    #[arg(long, value_name = "DURATION", value_parser = setting("idle_window"), allow_hyphen_values = true)]
    pub idle_window: Option<String>,
    /// The colours of the chat: auto, dark, light, high-contrast, …; /theme lists them all
    #[arg(long, value_name = "NAME", value_parser = setting("theme"))]
    pub theme: Option<String>,
    /// Stay in the normal screen: finished answers go into the terminal's scrollback
    #[arg(long)]
    pub inline: bool,
}

impl ChatFlags {
    /// The stored conversation to continue, if any.
    pub fn resume(&self) -> Option<Resume> {
        match &self.conversation {
            Some(id) => Some(Resume::Id(id.clone())),
            None => self.last.then_some(Resume::Last),
        }
    }
}

/// Which model runs, and where.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// A catalogue name, owner/repo, owner/repo:file.gguf, a .gguf file, a folder with config.json + safetensors, or auto
    #[arg(short, long, value_name = "NAME", global = true, value_parser = setting("model"))]
    pub model: Option<String>,
    /// Use this Jinja file, or a known form (chatml, llama3, mistral, gemma, phi3, ...), instead of the model's template
    #[arg(long, value_name = "FILE|NAME", global = true, value_parser = setting("chat_template"), value_hint = ValueHint::FilePath)]
    pub chat_template: Option<String>,
    /// Tokens that a conversation may take; default 8192, or the model's own where that is smaller
    #[arg(long, value_name = "N", global = true, value_parser = setting("context_length"), allow_hyphen_values = true)]
    pub context_length: Option<String>,
    /// Answer through an OpenAI-compatible server: its address, ollama, vllm, sglang, llama-server, lmstudio, openrouter,
    /// openai, or a [server.NAME] of the config file; then -m is the server's name of the model
    #[arg(long, value_name = "URL|NAME", global = true, value_parser = setting("server"))]
    pub server: Option<String>,
    /// How long a server may take to wake; default 10m; never: it has to be awake
    #[arg(long, value_name = "DURATION", global = true, value_parser = setting("server_wait"), allow_hyphen_values = true)]
    pub server_wait: Option<String>,
    /// auto, cpu, cuda or cuda:N[,M…], for example cuda:0,1: several GPUs as one
    #[arg(long, value_name = "DEVICE", global = true, value_parser = setting("device"))]
    pub device: Option<String>,
    /// Share of the VRAM that may be used; default 0.90
    #[arg(long, value_name = "F", global = true, value_parser = setting("gpu_memory_utilization"), allow_hyphen_values = true)]
    pub gpu_memory_utilization: Option<String>,
    /// CPU threads; default one for each physical core
    #[arg(long, value_name = "N", global = true, value_parser = setting("threads"), allow_hyphen_values = true)]
    pub threads: Option<String>,
}

/// How a one-shot answer is printed.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "One-shot")]
pub struct OneShotFlags {
    /// Output: text, one JSON object, or one JSON event a line
    #[arg(long, value_enum)]
    pub format: Option<OneShotFormat>,
    /// Print the figures on stderr
    #[arg(long)]
    pub stats: bool,
    /// Print the answer at the end
    #[arg(long)]
    pub no_stream: bool,
    /// Nothing but errors on stderr
    #[arg(short, long, conflicts_with = "stats")]
    pub quiet: bool,
    /// Do not make control characters harmless
    #[arg(long)]
    pub raw: bool,
    /// Show exactly what the model would read, load no weights, exit
    #[arg(long)]
    pub dry_run: bool,
    /// Do not store this turn
    #[arg(long)]
    pub no_save: bool,
    /// Print the stored answer to the same request at once, if it is reproducible (temperature 0, or a seed is given)
    #[arg(long)]
    pub cache: bool,
}

impl OneShotFlags {
    /// The first given flag that does not apply to the interactive chat.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            (self.format.is_some(), "--format"),
            (self.stats, "--stats"),
            (self.no_stream, "--no-stream"),
            (self.quiet, "--quiet"),
            (self.raw, "--raw"),
            (self.dry_run, "--dry-run"),
            (self.no_save, "--no-save"),
            (self.cache, "--cache"),
        ];
        given.iter().find(|(given, _)| *given).map(|(_, flag)| *flag)
    }
}

/// Flags of every run.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Setup")]
pub struct SetupFlags {
    /// Never use the network
    #[arg(long, global = true)]
    pub offline: bool,
    /// Another config file
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Write a log to FILE (level debug, or what CHATNAP_LOG names)
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
}

impl Args {
    /// The settings given by flags.
    pub fn overrides(&self) -> Vec<Override> {
        let (chat, model) = (&self.chat, &self.model);
        let given = [
            ("model", "--model", &model.model),
            ("system", "--system", &chat.system),
            ("chat_template", "--chat-template", &model.chat_template),
            ("max_tokens", "--max-tokens", &chat.max_tokens),
            ("temperature", "--temperature", &chat.temperature),
            ("top_p", "--top-p", &chat.top_p),
            ("top_k", "--top-k", &chat.top_k),
            ("min_p", "--min-p", &chat.min_p),
            ("repeat_penalty", "--repeat-penalty", &chat.repeat_penalty),
            ("seed", "--seed", &chat.seed),
            ("think", "--think", &chat.think),
            ("context_length", "--context-length", &model.context_length),
            ("on_overflow", "--on-overflow", &chat.on_overflow),
            ("idle_window", "--idle-window", &chat.idle_window),
            ("server", "--server", &model.server),
            ("server_wait", "--server-wait", &model.server_wait),
            ("device", "--device", &model.device),
            ("gpu_memory_utilization", "--gpu-memory-utilization", &model.gpu_memory_utilization),
            ("threads", "--threads", &model.threads),
            ("theme", "--theme", &chat.theme),
        ];
        let report = match &self.command {
            Some(Command::Report(report)) => {
                let own = [
                    ("temperature", "--temperature", Some(&report.temperature)),
                    ("seed", "--seed", report.seed.as_ref()),
                ];
                own.into_iter()
                    .filter_map(|(key, flag, value)| Some(Override { key, flag, value: value?.clone() }))
                    .collect()
            }
            _ => Vec::new(),
        };
        let offline = self.setup.offline.then(|| Override { key: "offline", flag: "--offline", value: "true".into() });
        let inline = chat.inline.then(|| Override { key: "inline", flag: "--inline", value: "true".into() });
        let texts = given
            .into_iter()
            .filter_map(|(key, flag, value)| value.as_ref().map(|value| Override { key, flag, value: value.clone() }));
        let cache = self.one_shot.cache.then(|| Override { key: "cache", flag: "--cache", value: "true".into() });
        texts.chain(offline).chain(inline).chain(report).chain(cache).collect()
    }
}

/// Output format of a one-shot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OneShotFormat {
    /// The answer.
    Text,
    /// One object at the end.
    Json,
    /// One event a line.
    Jsonl,
}

/// Names that shells complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompleteKind {
    /// Models of the catalogue and of the cache.
    Models,
    /// Themes.
    Themes,
    /// Ids of stored conversations.
    Conversations,
    /// Values of --device.
    Devices,
    /// Values of --server.
    Servers,
}

/// Output format of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Aligned columns.
    #[default]
    Table,
    /// A Markdown table.
    Markdown,
    /// JSON.
    Json,
}

/// Output format of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people and shells.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Output format of an exported conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// To read.
    #[default]
    Markdown,
    /// Everything that is stored, every branch of it.
    Json,
    /// The same, one conversation a line.
    Jsonl,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List, fetch and remove models
    Models(ModelsArgs),
    /// Look at, export and remove stored conversations
    Conversations(ConversationsArgs),
    /// Measure prefill and decode speed, or a text's perplexity
    Bench(BenchArgs),
    /// Show what models were used for, how long memory was held, what that costs, and which idle window to take
    Usage(UsageArgs),
    /// Ask two models, or one with two settings, the same, and show answers and figures side by side
    Compare(CompareArgs),
    /// Compute a stored answer again: identical, or the first token that differs and why
    Replay(ReplayArgs),
    /// Manage the answer cache (--cache)
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Show the tokens of a text (no special tokens are added)
    Tokenize(TokenizeArgs),
    /// Show where settings come from, write the default config
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script
    Completions {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page (troff), or write all of them
    Man {
        /// The page of this subcommand, such as `models pull`; default the program's own
        command: Vec<String>,
        /// Write every page into this folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
    /// List names for the completion of shells
    #[command(hide = true)]
    Complete {
        /// Of this kind
        kind: CompleteKind,
    },
    /// Show the GPUs and which models fit on them
    Gpu {
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Play scenarios with checks, and measure latency and memory
    Report(ReportArgs),
}

/// `chatnap models …`; alone it lists them
#[derive(Debug, clap::Args)]
pub struct ModelsArgs {
    /// Output of the list
    #[arg(long, value_enum)]
    pub format: Option<TableFormat>,
    /// What to do
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

/// `chatnap conversations …`; alone it lists them
#[derive(Debug, clap::Args)]
pub struct ConversationsArgs {
    /// Output of the list
    #[arg(long, value_enum)]
    pub format: Option<TableFormat>,
    /// What to do
    #[command(subcommand)]
    pub command: Option<ConversationsCommand>,
}

/// `chatnap models …`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Show the catalogue and what is on this machine
    List {
        /// Only what fits the memory that is free now
        #[arg(long)]
        fits: bool,
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Show this machine's memory, the models on disk, and which model to take for each class of device
    Recommend {
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Fetch a model
    #[command(visible_alias = "fetch")]
    Pull {
        /// The model, as -m takes it; default the one that is set
        name: Option<String>,
    },
    /// Print the paths of a model's files (nothing is fetched)
    Path {
        /// The model, as -m takes it; default the one that is set
        name: Option<String>,
    },
    /// Print every name that is known, one a line, for the completion of shells
    #[command(hide = true)]
    Names,
    /// Remove a model's files from this machine
    Remove {
        /// The model, as -m takes it
        name: String,
    },
}

/// `chatnap conversations …`
#[derive(Debug, Subcommand)]
pub enum ConversationsCommand {
    /// Show all, the last changed first
    List {
        /// Those in the trash instead
        #[arg(long)]
        removed: bool,
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Print one to read
    Show {
        /// The beginning of its id, or `last`
        id: String,
    },
    /// Print some as Markdown or JSON
    Export {
        /// The beginnings of their ids, or `last`
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that are stored, the last changed first
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: ExportFormat,
    },
    /// Change the title of one
    Rename {
        /// The beginning of its id, or `last`
        id: String,
        /// The title
        #[arg(allow_hyphen_values = true)]
        title: String,
    },
    /// Store the conversations in a file: what `export` writes as JSON or JSON lines, the `conversations.json` of
    /// ChatGPT, lists of messages with role and content
    Import {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Move some to the trash, which keeps them for 30 days
    Remove {
        /// The beginnings of their ids
        #[arg(required = true)]
        ids: Vec<String>,
        /// Remove them for good, also from the trash
        #[arg(long)]
        purge: bool,
    },
    /// Bring some back from the trash
    Restore {
        /// The beginnings of their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Find those that contain all words, the best first
    Search {
        /// The words or their beginnings; "words in quotes" belong together; letter case does not count
        #[arg(allow_hyphen_values = true)]
        text: String,
        /// Output
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
}

/// `chatnap bench …`
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// What to measure: ppN (a prompt of N tokens), tgN or tgN@DEPTH (N tokens one by one); default a set of both
    #[arg(long, value_name = "TEST", value_delimiter = ',', value_parser = Test::parse)]
    pub test: Vec<Test>,
    /// How often each is measured, after one run that warms up; default 3
    #[arg(long, value_name = "N", value_parser = repeat)]
    pub repeat: Option<usize>,
    /// Output
    #[arg(long, value_enum)]
    pub format: Option<TableFormat>,
    /// Another measure
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
}

/// `chatnap bench perplexity …`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the perplexity of a text, in chunks of 512 tokens (--context-length N changes that)
    Perplexity {
        /// The text, UTF-8
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Output
        #[arg(long, value_enum)]
        format: Option<TableFormat>,
    },
}

/// `chatnap tokenize …`
#[derive(Debug, clap::Args)]
pub struct TokenizeArgs {
    /// The text; without it standard input is read, byte for byte
    #[arg(allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Parse control tokens in the text
    #[arg(long)]
    pub special: bool,
    /// Output
    #[arg(long, value_enum, default_value_t)]
    pub format: TextFormat,
}

/// `chatnap config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the config file's path
    Path,
    /// Print the effective settings, and where each value comes from
    Show,
    /// Print the commented default, or write it to a file that does not exist yet
    Default {
        /// Write it there
        #[arg(value_hint = ValueHint::FilePath, conflicts_with = "write")]
        file: Option<PathBuf>,
        /// Write it to the config file's own place
        #[arg(long)]
        write: bool,
    },
}
