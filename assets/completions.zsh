# Names of models, themes, conversations, devices and servers come from the program itself, because they change.
_chatnap_names() {
    local -a names
    names=("${(@f)$(_call_program $1 chatnap complete $1 2>/dev/null)}")
    # A colon parts the name from its description.
    names=("${(@)names//:/\\:}")
    names=("${(@)names/$'\t'/:}")
    _describe -V -t $1 $1 names
}
_chatnap_models() { _chatnap_names models }
_chatnap_devices() { _chatnap_names devices }
_chatnap_servers() { _chatnap_names servers }
_chatnap_themes() { _chatnap_names themes }
_chatnap_conversations() { _chatnap_names conversations }

