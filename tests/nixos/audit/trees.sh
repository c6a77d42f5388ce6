# shellcheck shell=bash
# Sourced. Roots from what parts.nix says of systems, and what impctl says of them.

# Makes a root of each system in the folder that is named: trees FOLDER BARE < SYSTEMS. SYSTEMS are objects, `{ "NAME": PARTS }`; BARE is
# a file with the list `etc` of names that every system has in /etc.
trees() {
    local root folder=$1 bare=$2
    # shellcheck disable=SC1090
    . <(jq -r --slurpfile bare "$bare" --arg folder "$folder" "$trees_jq")
}

# A file in `root`, unless there is one.
file() {
    local path=$root/$1
    [[ ! -e $path && ! -L $path ]] || return 0
    [[ -d ${path%/*} ]] || mkdir -p "${path%/*}"
    printf %s "$2" > "$path"
}

# A symbolic link there.
link() {
    local path=$root/$1
    [[ -d ${path%/*} ]] || mkdir -p "${path%/*}"
    ln -s "$2" "$path"
}

# A shell script that makes the roots.
# shellcheck disable=SC2016
trees_jq='
def file(path; text): @sh "file \(path) \(text)";
def texts: .units[], .activate // "/nix/store/x-users-groups.json";
# The program of each script that NixOS makes for a unit, as its unit names it.
def programs: [.units[] | scan("/nix/store/[^ \n]*-unit-script-[^ \n]*")] | unique[];
to_entries[] | select(.value.error | not) | @sh "root=\($folder)/\(.key)", (.value | . as $it
    | file("etc/fstab"; .etc.fstab // "tmpfs / tmpfs defaults 0 0\n/dev/vda1 /persist ext4 defaults 0 0\n/dev/vda2 /nix ext4 defaults 0 0\n"),
      file("etc/NIXOS"; ""),
      (.units | to_entries[] | file("etc/systemd/system/\(.key)"; .value)),
      file("etc/tmpfiles.d/rules.conf"; .rules | map(. + "\n") | add // ""),
      file("activate"; .activate // "/nix/store/x-users-groups.json"),
      ([texts | scan("/nix/store/[^ \n]*-(?:users-groups|userborn)[.]json")] | unique[] | file(.[1:]; { users: [$it.users[]] } | tojson)),
      (programs as $program | .scripts | to_entries[] as $unit | $unit.value | to_entries[] as $script
        | select($program | endswith("/\($unit.key)-\($script.key)"))
        | file($program[1:]; "#!/bin/sh\n" + $script.value)),
      # Those that every system has are there by name.
      ((.etc | to_entries[]), ($bare[0].etc[] | { key: ., value: "" })
        | if (.value | type) == "object" then @sh "link \("etc/" + .key) \(.value.to)" else file("etc/\(.key)"; .value // "") end))'
