
# Names of models, themes, conversations, devices and servers come from the program itself, because they change.
complete -c chatnap -s m -l model -x -a '(chatnap complete models 2>/dev/null)'
complete -c chatnap -l device -x -a '(chatnap complete devices 2>/dev/null)'
complete -c chatnap -l server -x -a '(chatnap complete servers 2>/dev/null)'
complete -c chatnap -l theme -x -a '(chatnap complete themes 2>/dev/null)'
complete -c chatnap -l conversation -x -a '(chatnap complete conversations 2>/dev/null)'
complete -c chatnap -n '__fish_seen_subcommand_from models; and __fish_seen_subcommand_from pull fetch path remove' \
    -f -a '(chatnap complete models 2>/dev/null)'
complete -c chatnap -n '__fish_seen_subcommand_from conversations; and __fish_seen_subcommand_from show export rename remove' \
    -f -a '(chatnap complete conversations 2>/dev/null)'
