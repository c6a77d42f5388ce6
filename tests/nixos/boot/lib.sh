# shellcheck shell=bash
# Sourced by run: what scenarios are written with.
# shellcheck disable=SC2034,SC2154 # run uses $failed, and sets $here, $folder and $scratch
failed=0

fail() {
    printf 'FAILED: %s\n' "$*"
    failed=1
}

skipped() {
    printf '\n********************************************************************\n'
    printf '** SKIPPED: %s\n' "$@"
    printf '********************************************************************\n\n'
}

# Whether sources of others are there, for a scenario that needs them: needs NAME...
needs() {
    local source
    for source; do
        [[ -d $NIXOS_SOURCES/$source ]] || {
            skipped "there is no $NIXOS_SOURCES/$source:" "no boot of $name"
            return 1
        }
    done
}

# Prints what this machine is, as far as a boot could change it: parameters, but for those that the kernel sets itself, name, mounts,
# devices; of loop devices and control groups those that machines of these tests make, as others come and go.
state() {
    { grep -ars '' /proc/sys || true; } | grep -vE '^/proc/sys/(kernel/(random/|ns_last_pid|pty/nr|sched_domain|hung_task_(detect|warnings)|perf_event_max_sample_rate|tainted)|fs/(dentry-state|file-nr|inode-|aio-nr|quota|binfmt)|vm/stat|net/.*(conntrack_count|gc_|flush))'
    uname -n
    cut -d' ' -f3- "/proc/$OUTSIDE/mountinfo"
    find /dev -xdev -maxdepth 1 ! -name 'loop*' -printf '%p %y %m %u %g\n' | sort
    losetup --noheadings --raw --output NAME,BACK-FILE | sort |
        { grep -E "$folder|^[^ ]* /(run|sysroot|etc|nix)/" || true; }
    find /sys/fs/cgroup -maxdepth 2 -type d -name 'imp-mount-nixos.*'
}

# Compares with what this machine was before. What others do at the same time is waited for.
unchanged() {
    for _ in {1..20}; do
        state > "$scratch/now"
        ! diff "$1" "$scratch/now" > "$scratch/changed" || return 0
        sleep 0.5
    done
    echo "FAILED: this machine has changed:"
    cat "$scratch/changed"
    return 1
}

# Nix on the store of the tests, without the machine's settings, build users and caches. With SANDBOX=true a build has what it has on
# NixOS, and this machine's programs.
nix_here() {
    env -u NIX_PATH -u NIX_REMOTE NIX_STORE_DIR=/nix/store NIX_STATE_DIR=/nix/var/nix NIX_LOG_DIR=/nix/var/log/nix \
        NIX_LOCALSTATE_DIR=/nix/var NIX_CONF_DIR=/nix/etc NIX_USER_CONF_FILES=/dev/null XDG_CACHE_HOME="$folder/cache" \
        NIX_CONFIG="sandbox = ${SANDBOX:-false}
sandbox-paths = /bin /usr /lib /lib64 /etc/alternatives $(rustc --print sysroot)
build-users-group =
substituters =" "$@"
}

# Builds what nix/ has by a name, and prints its path.
build() {
    nix_here nix-build --max-jobs "$(nproc)" --no-out-link "$here/nix" -A "$1" --arg nixpkgs "$NIXPKGS" \
        --argstr debian "$folder/tree" --argstr programs "$NIXOS_PROGRAMS" --argstr binaries "$folder/bin" \
        --argstr sources "$NIXOS_SOURCES" --argstr machine "$folder/machine" --argstr toolchain "$(rustc --print sysroot)" \
        2> "$scratch/build" || {
        # The last lines of what failed, and the first errors: what depends on it fails for that.
        sed '/^error/,$d' "$scratch/build" | tail -n 20 >&2
        sed -n '/^error/,$p' "$scratch/build" | head -n 40 >&2
        return 1
    }
}

# Builds a host of hosts/, and prints its path.
system() {
    build "$1.system"
}

# Makes a disk with the closures of systems: disk NAME SYSTEM... PREFIX=/nix's parent on it
disk() {
    local image=$scratch/$1.img stage=$scratch/stage path
    shift
    mkdir -p "$stage${PREFIX:-}/nix/store" "$stage${PREFIX:-}/nix/var/nix/profiles"
    nix_here nix-store --query --requisites "$@" | sort -u | while read -r path; do
        cp -al "$folder$path" "$stage${PREFIX:-}/nix/store/"
    done
    ln -s "$1" "$stage${PREFIX:-}/nix/var/nix/profiles/system"
    truncate -s "${SIZE:-1G}" "$image"
    mke2fs -q -t ext4 -F -L "${LABEL:-persist}" -O ^has_journal -E root_owner=0:0,lazy_itable_init=1 -d "$stage" "$image"
    rm -rf "$stage"
}

# Takes what only a terminal needs out of a console.
readable() {
    sed -uE 's/\r//g; s/\x1b\[[0-9;?]*[ -\/]*[@-~]//g'
}

# Boots a system from the disk with the scenario's name; the input is a script for it. With `stops`, the boot has to end in the
# emergency shell. What it says is in $console.
boot() {
    cat "$here/guest" - > "$scratch/probe"
    state > "$scratch/before"
    mkdir "$scratch/machine.d"
    SCRATCH=$scratch/machine.d PROBE=$scratch/probe "$here/machine" "$scratch/${DISK:-$name}.img" "$1" 2>&1 | readable > "$console"
    rmdir "$scratch/machine.d"
    unchanged "$scratch/before" || failed=1
    if [[ ${2:-} == stops ]]; then
        grep -q '^EMERGENCY' "$console" || fail "$name: no emergency shell"
        ! grep -q '^END-OF-PROBE' "$console" || fail "$name: the system is up"
    elif ! grep -q '^END-OF-PROBE' "$console"; then
        fail "$name: the system did not come up, or its script did not end:"
        tail -n 60 "$console"
    fi
    judge
}

# Fails for what a console says, and keeps it where that is asked for.
judge() {
    ! grep -E '^(FAILED|SWITCH)' "$console" || failed=1
    [[ -z ${KEEP:-} ]] || cp "$console" "$folder/$name.$((++boots)).console"
}

# Starts a virtual machine by the program that NixOS made for it, in a directory with its disks, on QEMU's own processor: start
# PROGRAM DIRECTORY BOOTS. The input is a script for it, run in each of its boots, and $boot is their number there: it boots again
# after each but the last. What it says is in $console.
start() {
    mkdir -p "$2/shared"
    # shellcheck disable=SC2016 # expanded there
    {
        echo "exec > /dev/console 2>&1 < /dev/null"
        cat "$here/guest"
        echo 'read -r boot < /tmp/shared/boot && echo $((++boot)) > /tmp/shared/boot'
        cat
        echo "[ \$boot = $3 ] || systemctl --no-block reboot"
    } > "$2/shared/probe"
    echo 0 > "$2/shared/boot"
    rm -rf "$2/run"
    mkdir "$2/run"
    state > "$scratch/before"
    # The last of two equal options counts. KVM is not for every kernel here. On a busy machine a boot outlasts systemd's usual limits.
    (cd "$2" && SHARED_DIR=$2/shared TMPDIR=$2/run USE_TMPDIR=yes QEMU_OPTS="-machine accel=tcg -smp 2" \
        QEMU_KERNEL_PARAMS="no_timer_check systemd.show_status=no systemd.default_device_timeout_sec=1800 systemd.default_timeout_start_sec=1800" \
        timeout --kill-after=5 1800 "$1" < /dev/null 2>&1 || echo "FAILED: the machine ended with $?") | readable > "$console"
    unchanged "$scratch/before" || failed=1
    [[ $(grep -c '^END-OF-PROBE' "$console") == "$3" ]] || {
        fail "$name: the machine did not come up $3 times, or its script did not end:"
        tail -n 60 "$console"
    }
    judge
}

# What the machine printed after a word.
said() {
    sed -nE "s/^$1 //p" "$console"
}

# Runs one scenario; its first lines say what it asserts.
scenario() {
    local start=$SECONDS
    failed=0
    name=$1 console=$scratch/console boots=0
    echo "-- $name: $(sed -n '2,/^[^#]/s/^# *//p' "$here/scenarios/$name" | tr '\n' ' ')"
    # shellcheck disable=SC1090
    . "$here/scenarios/$name"
    echo "   $((SECONDS - start)) s"
    return "$failed"
}
