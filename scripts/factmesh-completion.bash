# Bash completion for factmesh. Installed as share/bash-completion/completions/factmesh; or: source this file.
#
# The options come from the command itself (factmesh COMMAND --help), so that this file need not follow them.

_factmesh () {
    local cur prev command word i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    local commands="journal pub sub replay cursor get trace correct request respond work group blob nodes status inspect verify repair dump bench version help"

    command=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ " $commands " == *" $word "* ]] && { command=$word; break; }
    done
    if [[ -z $command || $command == help ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$cur")
        return
    fi

    case $prev in
    --file | -f | --ack-log | --address-file | --output | -o)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
        ;;
    --identity)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        compopt -o filenames 2>/dev/null
        return
        ;;
    --from)
        if [[ $command == repair ]]; then
            mapfile -t COMPREPLY < <(compgen -W "${FACTMESH_SEED:-tcp}" -- "$cur"; compgen -d -- "$cur")
            compopt -o filenames 2>/dev/null
            return
        fi
        mapfile -t COMPREPLY < <(compgen -W "start end latest -100 @-1h @-1d cursor offset" -- "$cur")
        return
        ;;
    --until)
        mapfile -t COMPREPLY < <(compgen -W "end @now offset" -- "$cur")
        return
        ;;
    --seed | -s)
        mapfile -t COMPREPLY < <(compgen -W "${FACTMESH_SEED:-tcp}" -- "$cur")
        return
        ;;
    --mesh | --bind | --name | --timeout | --key | -k | --topic-column | --type | -t | --content-type | --header | -H | \
        --correlation | --causation | --payload-max | --rate | --journals | --journal | --stream | --delimiter | --count | -n | \
        --cursor | -c | --format | --wait | --topics | --segment-size | --segment-age | --retain-size | --retain-age | --http | --blob-max | --blob-lease | --blob-sweep | --lease | --range | --for | --size | --topic)
        return
        ;;
    esac

    if [[ $cur == -* ]]; then
        local options
        options=$("${COMP_WORDS[0]}" "$command" --help 2>/dev/null | grep -oE -- '^  .{0,4}--[a-z-]+' | grep -oE -- '--[a-z-]+')
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $command in
    journal | inspect | verify | repair | dump)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        compopt -o filenames 2>/dev/null
        ;;
    blob)
        if ((i == COMP_CWORD - 1)); then
            mapfile -t COMPREPLY < <(compgen -W "put get ls stat" -- "$cur")
        elif [[ ${COMP_WORDS[i + 1]} == put ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            compopt -o filenames 2>/dev/null
        fi
        ;;
    cursor)
        ((i == COMP_CWORD - 1)) && mapfile -t COMPREPLY < <(compgen -W "ls show seek rm" -- "$cur")
        ;;
    bench)
        ((i == COMP_CWORD - 1)) && mapfile -t COMPREPLY < <(compgen -W "pub sub latency replay" -- "$cur")
        ;;
    esac
}

complete -F _factmesh factmesh
