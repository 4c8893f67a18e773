
# Names of models, themes, conversations, devices and servers come from the program itself, because they change.
_chatnap_names() {
    local line=${COMP_LINE:0:COMP_POINT} word before previous kind index cut
    word=${line##*[[:space:]]}
    before=${line%"$word"}
    before=${before%"${before##*[![:space:]]}"}
    previous=${before##*[[:space:]]}
    case $word in
        --model=*) kind=models ;;
        --theme=*) kind=themes ;;
        --device=*) kind=devices ;;
        --server=*) kind=servers ;;
        --conversation=*) kind=conversations ;;
        -*) return 1 ;;
        *)
            case $previous in
                -m|--model) kind=models ;;
                --theme) kind=themes ;;
                --device) kind=devices ;;
                --server) kind=servers ;;
                --conversation) kind=conversations ;;
                *)
                    if [[ $before =~ [[:space:]]models[[:space:]]+(pull|fetch|path|remove)$ ]]; then
                        kind=models
                    elif [[ $before =~ [[:space:]]conversations[[:space:]]+((show|export|rename)$|remove([[:space:]]|$)) ]]; then
                        kind=conversations
                    else
                        return 1
                    fi ;;
            esac ;;
    esac
    [[ $word == --*=* ]] && word=${word#*=}
    COMPREPLY=($(compgen -W "$("$1" complete "$kind" 2>/dev/null | cut -f1)" -- "$word"))
    # If a colon breaks words, bash replaces only the text after the last colon.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        cut=${word%"${word##*:}"}
        for index in "${!COMPREPLY[@]}"; do COMPREPLY[index]=${COMPREPLY[index]#"$cut"}; done
    fi
    [[ ${#COMPREPLY[@]} -gt 0 ]]
}

_chatnap_with_names() {
    _chatnap_names "$@" || _chatnap "$@"
}

complete -F _chatnap_with_names -o bashdefault -o default chatnap
