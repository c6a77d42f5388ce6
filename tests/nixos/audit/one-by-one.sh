# shellcheck shell=bash disable=SC2154
# Sourced. Evaluates many systems in few processes; `nixpkgs` is set.
evaluate_lean() {
    GC_INITIAL_HEAP_SIZE=4G nice nix-instantiate --store 'dummy://?store=/nix/store' --eval --strict --json \
        --arg nixpkgs "$nixpkgs" "$@"
}

# What FILE says of each NAME of the list ARGUMENT, `{ "NAME": ... }` a line: one_by_one FILE ARGUMENT ELSE NAME... Names that end the
# evaluation by their error are left out of the next one, and have ELSE.
one_by_one() {
    local file=$1 argument=$2 otherwise=$3 line list known
    shift 3
    while [[ $# -gt 0 ]]; do
        list=$(printf '"%s" ' "$@")
        known=0
        while IFS= read -r line; do
            [[ $line == 'trace: {"'* ]] || continue
            printf '%s\n' "${line#trace: }"
            known=$((known + 1))
        done < <(evaluate_lean --arg "$argument" "[ $list ]" "$file" 2>&1)
        shift "$known"
        if [[ $# -gt 0 ]]; then
            printf '{"%s":%s}\n' "$1" "$otherwise"
            shift
        fi
    done
}
