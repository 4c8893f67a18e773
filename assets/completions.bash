
# Model names come from the program itself, because the cache changes.
_chatnap_models() {
    local line=${COMP_LINE:0:COMP_POINT} word before previous index cut
    word=${line##*[[:space:]]}
    before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    previous=${before##*[[:space:]]}
    case $word in
        --model=*) word=${word#--model=} ;;
        *)
            case $previous in
                -m|--model) ;;
                pull|path|remove) [[ $before == *[[:space:]]models[[:space:]]* ]] || return 1 ;;
                *) return 1 ;;
            esac ;;
    esac
    COMPREPLY=($(compgen -W "$("$1" models names 2>/dev/null)" -- "$word"))
    # If a colon breaks words, bash replaces only the text after the last colon.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        cut=${word%"${word##*:}"}
        for index in "${!COMPREPLY[@]}"; do COMPREPLY[index]=${COMPREPLY[index]#"$cut"}; done
    fi
    [[ ${#COMPREPLY[@]} -gt 0 ]]
}

_chatnap_with_models() {
    _chatnap_models "$@" || _chatnap "$@"
}

complete -F _chatnap_with_models -o bashdefault -o default chatnap
