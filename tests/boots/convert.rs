//! A root on a disk becomes the store below a tmpfs, and becomes the root again by each of the ways back.

use serde_json::json;

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::support::Snapshot;

tests![installed_root_and_back, installed_root_of_a_new_kernel];

/// An ordinary installation without any preparation.
fn ordinary() -> Boot {
    Boot::ordinary().mount("LABEL=root", "/", "ext4", "").without("/nix").without("/persist").probe(
        r#"
        fact "state $(systemctl --failed --no-legend --plain)" running "$state"
        fact "root's type" ext4 "$(findmnt --noheadings --output FSTYPE /)"
        "#,
    )
}

/// Differences to a later state of the disk. The fstab belongs to a generation.
fn losses(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut losses = before.losses(after);
    losses.retain(|line| !line.starts_with("/etc/fstab:"));
    losses
}

/// Some state, of all kinds.
const STATE: &str = r"
    mkdir -p /var/lib/app/deep /home/alice /srv/forgotten
    echo state > /var/lib/app/state
    ln /var/lib/app/state /var/lib/app/deep/hardlink
    ln -s /srv/forgotten /var/lib/app/symlink
    chown -R 193:194 /var/lib/app
    chmod 2750 /var/lib/app
    setfattr --name user.note --value important /var/lib/app/state
    setfacl --modify u:1000:rx /var/lib/app/deep
    echo letter > /home/alice/letter
    chown -R alice:users /home/alice
    chmod 700 /home/alice
    chmod 700 /root
    echo unnamed > /srv/forgotten/file
    rm -f /etc/machine-id
    systemd-id128 new > /etc/machine-id
    chmod 444 /etc/machine-id
";

fn converted() -> Boot {
    let manifest = json!({
        "version": 1,
        "root": { "convert": "/persist", "size": "128M", "options": ["noatime"] },
        "entries": [
            { "directory": "/nix", "phase": "early" },
            { "directory": "/var/lib" },
            { "directory": "/home" },
            { "directory": "/root", "mode": "0700" },
            { "file": "/etc/machine-id", "missing": "machine-id" },
        ],
    });
    Boot::new(&manifest).converts("LABEL=root")
}

/// Files of a system with the converted root.
const CONVERTED: &str = r#"
    well
    fact "root's type" tmpfs "$(findmnt --noheadings --output FSTYPE /)"
    fact "root's size" $((128 << 20)) "$(findmnt --noheadings --bytes --output SIZE /)"
    holds "root's options" grep --word-regexp noatime <(findmnt --noheadings --output VFS-OPTIONS /)
    fact "disk is the store" "$(readlink --canonicalize /dev/disk/by-label/root) /" \
        "$(findmnt --noheadings --nofsroot --raw --output SOURCE,FSROOT /persist)"
    for path in /nix /var/lib /home /root /etc/machine-id; do
        fact "$path" "$(readlink --canonicalize /dev/disk/by-label/root)[$path]" "$(findmnt --noheadings --output SOURCE $path)"
    done
    fact state "state important" "$(cat /var/lib/app/state) $(getfattr --absolute-names --only-values --name user.note /var/lib/app/state)"
    fact owner "193:194 2750" "$(stat --format '%u:%g %a' /var/lib/app)"
    fact links 2 "$(stat --format %h /var/lib/app/state)"
    fact letter "letter alice" "$(cat /home/alice/letter) $(stat --format %U /home/alice/letter)"
    fails "unnamed on the root" test -e /srv/forgotten
    fact "unnamed on the store" unnamed "$(cat /persist/srv/forgotten/file)"
    fails "lost before" test -e /srv/lost
    touch /srv/lost
"#;

/// The same boot entry with the word on its command line.
fn off() -> Boot {
    converted().cmdline("imp-mount=off").probe(
        r#"
        fact "state $(systemctl --failed --no-legend --plain)" running "$state"
        fact "root's type" ext4 "$(findmnt --noheadings --output FSTYPE /)"
        fails "no store" mountpoint --quiet /persist
        fact "no mount of ours" "" "$(findmnt --noheadings --list --output TARGET | grep -E '^/(nix|var|home|root|etc)')"
        fact "old state" "state unnamed letter" \
            "$(cat /var/lib/app/state /srv/forgotten/file /home/alice/letter | xargs)"
        holds check imp-mount --check
        "#,
    )
}

fn installed_root_and_back() {
    let computer = Computer::with(On::Here, Suite::Stable, vec![Computer::installed(Suite::Stable)]);
    let disk = || computer.drive("root").is_clean().visit(Snapshot::of);

    computer.boot(&ordinary().probe(STATE)).passed();
    let installed = disk();

    // Converted: no file on the disk changed.
    let first = converted().probe(CONVERTED).probe(
        r#"
        fails "nothing yet" test -e /var/lib/app/first
        echo first > /var/lib/app/first
        "#,
    );
    let console = computer.boot(&first).passed();
    assert!(!console.text.contains("Detected first boot."), "{console:?}");
    let now = disk();
    assert_eq!(losses(&installed, &now), [] as [String; 0]);
    assert!(now.line("srv/lost").is_none() && now.line("var/lib/app/first").is_some());

    let second = converted()
        .probe(CONVERTED)
        .probe(r#"fact "what the first wrote" first "$(cat /var/lib/app/first)""#);
    computer.boot(&second).passed();
    let before = disk();

    // Back by imp-mount=off: the disk is the root, with all earlier and later files.
    let off = off().probe(
        r#"
        fact "converted state" first "$(cat /var/lib/app/first)"
        echo off > /var/lib/app/off
        "#,
    );
    computer.boot(&off).passed();
    let after = disk();
    assert_eq!(losses(&before, &after), [] as [String; 0]);

    // Back by the old boot entry, without imp-mount.
    let old = ordinary().probe(
        r#"
        fact "all states" "state unnamed first off" \
            "$(cat /var/lib/app/state /srv/forgotten/file /var/lib/app/first /var/lib/app/off | xargs)"
        echo old > /var/lib/app/old
        "#,
    );
    computer.boot(&old).passed();

    // And forth again.
    let again = converted().probe(CONVERTED).probe(
        r#"fact "all states" "first off old" "$(cat /var/lib/app/first /var/lib/app/off /var/lib/app/old | xargs)""#,
    );
    computer.boot(&again).passed();
    let last = disk();
    assert_eq!(losses(&installed, &last), [] as [String; 0]);
}

/// With device units, an fstab read in the initrd and on the running system, and the root remounted by its line.
fn installed_root_of_a_new_kernel() {
    let computer = Computer::with(On::Uml, Suite::Testing, vec![Computer::installed(Suite::Testing)]);
    let disk = || computer.drive("root").is_clean().visit(Snapshot::of);
    computer.boot(&ordinary().probe(STATE)).passed();
    let installed = disk();
    computer.boot(&converted().probe(CONVERTED)).passed();
    let now = disk();
    assert_eq!(losses(&installed, &now), [] as [String; 0]);
    computer.boot(&off()).passed();
    assert_eq!(losses(&installed, &disk()), [] as [String; 0]);
}
