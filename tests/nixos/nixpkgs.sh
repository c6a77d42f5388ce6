# shellcheck shell=bash
# Sourced. Sets NIXPKGS to the tree in the user's cache where it is not set and there is one that the installed Nix can evaluate.
cached=${XDG_CACHE_HOME:-$HOME/.cache}/imp-mount/nixpkgs
if [[ -z ${NIXPKGS:-} && -d $cached ]]; then
    if nix-instantiate --store dummy:// --eval "$cached" -A lib.version > /dev/null 2>&1; then
        export NIXPKGS=$cached
    else
        echo "SKIPPED: the Nix here cannot evaluate $cached: $(nix-instantiate --version 2>&1)"
    fi
fi
