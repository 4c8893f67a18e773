//! Built-in templates by name, for models without a template and for `--chat-template NAME`.

use super::TemplateError;
use super::source;
use crate::engine::tokenizer::Tokenizer;

/// A built-in template.
#[derive(Debug)]
pub struct Form {
    /// The value of `--chat-template`.
    pub name: &'static str,
    /// The name in warnings.
    pub title: &'static str,
    pub source: &'static str,
}

macro_rules! form {
    ($name:literal, $title:literal) => {
        Form { name: $name, title: $title, source: include_str!(concat!("forms/", $name, ".jinja")) }
    };
}

/// In the order of error messages. `plain` is the fallback for vocabularies without known marks.
const FORMS: &[Form] = &[
    form!("alpaca", "the Alpaca form"),
    form!("chatml", "ChatML"),
    form!("command-r", "the Command R form"),
    form!("deepseek", "the DeepSeek V3 form"),
    form!("deepseek2", "the DeepSeek V2 form"),
    form!("exaone3", "the EXAONE 3 form"),
    form!("gemma", "the Gemma form"),
    form!("glm4", "the GLM-4 form"),
    form!("granite", "the Granite form"),
    form!("llama2", "the Llama 2 form"),
    form!("llama3", "the Llama 3 form"),
    form!("llama4", "the Llama 4 form"),
    form!("mistral", "the Mistral form"),
    form!("mistral-v7", "the Mistral V7 form"),
    form!("openchat", "the OpenChat form"),
    form!("phi3", "the Phi-3 form"),
    form!("phi4", "the Phi-4 form"),
    form!("plain", "a plain \"User:\"/\"Assistant:\" form"),
    form!("vicuna", "the Vicuna form"),
    form!("zephyr", "the Zephyr form"),
];

/// Tokens that identify the form of a vocabulary; the first entry whose tokens are all present applies.
const MARKS: &[(&[&str], &str)] = &[
    (&["<|im_start|>", "<|im_sep|>"], "phi4"),
    (&["<|im_start|>"], "chatml"),
    (&["<|start_header_id|>"], "llama3"),
    (&["<|header_start|>"], "llama4"),
    (&["<start_of_turn>"], "gemma"),
    (&["<|start_of_role|>"], "granite"),
    (&["<|START_OF_TURN_TOKEN|>"], "command-r"),
    (&["<｜User｜>"], "deepseek"),
    (&["[|endofturn|]"], "exaone3"),
    (&["[gMASK]", "<|user|>"], "glm4"),
    (&["<|user|>", "<|end|>"], "phi3"),
    (&["<|user|>"], "zephyr"),
    (&["[SYSTEM_PROMPT]"], "mistral-v7"),
    (&["[INST]"], "mistral"),
    (&["<s>", "</s>", "<0x0A>"], "llama2"),
];

/// The form with this name, ignoring ASCII case.
pub fn find(name: &str) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.name.eq_ignore_ascii_case(name))
}

/// The form whose marks `tokenizer` contains, else `plain`.
pub fn by_vocabulary(tokenizer: &Tokenizer) -> &'static Form {
    let has = |marks: &&[&str]| marks.iter().all(|mark| tokenizer.token_id(mark).is_some());
    let name = MARKS.iter().find(|(marks, _)| has(marks)).map_or("plain", |(_, name)| name);
    find(name).unwrap_or(&FORMS[0])
}

/// The template given with `--chat-template`, which replaces the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The path as given, or the form's name.
    pub name: String,
    /// Jinja source.
    pub source: String,
}

impl Chosen {
    /// As `find`, if there is a choice. The error is a complete sentence for the user.
    pub fn of(choice: Option<&str>) -> Result<Option<Self>, TemplateError> {
        let found = choice.map(Self::find).transpose();
        found.map_err(|error| TemplateError(format!("The chat template cannot be used: {error}")))
    }

    /// The form with that name, else the file at that path (`./NAME` selects a file with the name of a form). Reads the
    /// file but compiles nothing.
    pub fn find(choice: &str) -> Result<Self, TemplateError> {
        if let Some(form) = find(choice) {
            return Ok(Self { name: form.name.to_owned(), source: form.source.to_owned() });
        }
        match source::of_file(choice)? {
            Some(source) => Ok(Self { name: choice.to_owned(), source }),
            None => {
                let names: Vec<_> = FORMS.iter().map(|form| form.name).collect();
                Err(TemplateError(format!(
                    "there is no file {choice} and no known form of that name. Known forms: {}.",
                    names.join(", ")
                )))
            }
        }
    }
}
