//! Templates for models that bring none, chosen by what their vocabulary names.

use crate::engine::tokenizer::Tokenizer;

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\\n\\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' + (first if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

const PHI3: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

const ZEPHYR: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] ~ eos_token ~ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

const LLAMA2: &str = "{% if messages[0]['role'] == 'system' %}{% set first = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + ' ' ~ eos_token }}{% else %}{{ bos_token ~ '[INST] ' + (first if loop.first else '') + message['content'] | trim + ' [/INST]' }}{% endif %}{% endfor %}";

const PLAIN: &str = "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] | trim + '\\n' }}{% else %}{{ 'Assistant: ' + message['content'] | trim + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// The name and source of the form that `tokenizer` has the marks for.
pub fn choose(tokenizer: &Tokenizer) -> (&'static str, &'static str) {
    let has = |piece: &str| tokenizer.token_id(piece).is_some();
    if has("<|im_start|>") {
        ("ChatML", CHATML)
    } else if has("<|start_header_id|>") {
        ("the Llama 3 form", LLAMA3)
    } else if has("<start_of_turn>") {
        ("the Gemma form", GEMMA)
    } else if has("<|user|>") && has("<|end|>") {
        ("the Phi-3 form", PHI3)
    } else if has("<|user|>") && tokenizer.eos().is_some() {
        ("the Zephyr form", ZEPHYR)
    } else if has("[INST]") || (has("<s>") && has("</s>") && has("<0x0A>")) {
        ("the Llama 2 form", LLAMA2)
    } else {
        ("a plain \"User:\"/\"Assistant:\" form", PLAIN)
    }
}
