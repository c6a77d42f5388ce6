//! NixOS's order: units of hosts by its module, with NixOS's own units, on the systemd of Debian.
//!
//! `tests/nixos/order` compares the texts with the module. They are used unchanged: their programs exist at the same paths,
//! with stand-ins for NixOS's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::console::Console;
use crate::drive::Drive;
use crate::support::Fs;

tests![a_tmpfs_root, a_disk_of_the_running_system, users_of_userborn];

/// Folder of the texts.
fn order(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nixos/order/units").join(path)
}

/// Writes a host's units for the initrd and the running system, as NixOS installs them: beside a unit of systemd's own as a
/// drop-in.
pub fn write_units(to: &Path, host: &str) {
    for (place, tree, below) in [("initrd", "initrd", ""), ("system", "root/nix/store/system", "boot")] {
        let own = Computer::part(Suite::Stable, tree).join("usr/lib/systemd/system");
        let folder = to.join(below).join("etc/systemd/system");
        // A host uses the units of `plain`, with its own differences.
        let files = ["plain", host].map(|host| fs::read_dir(order(host).join(place)));
        for file in files.into_iter().flatten().flatten() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            let is_dropin = own.join(&name).exists() || text.lines().any(|line| line == "# drop-in");
            let path = folder.join(if is_dropin { format!("{name}.d/overrides.conf") } else { name.clone() });
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &text).unwrap();
            for (words, kind) in [("# wanted by ", "wants"), ("# required by ", "requires")] {
                let by = text.lines().find_map(|line| line.strip_prefix(words)).unwrap_or_default();
                for by in by.split_whitespace().map(|by| folder.join(format!("{by}.{kind}"))) {
                    fs::create_dir_all(&by).unwrap();
                    // There already by the text of `plain`.
                    if !by.join(&name).is_symlink() {
                        symlink(format!("../{name}"), by.join(&name)).unwrap();
                    }
                }
            }
        }
    }
}

/// The manifest of a host.
fn manifest(host: &str) -> Value {
    serde_json::from_slice(&fs::read(order(host).join("manifest.json")).unwrap()).unwrap()
}

const FIND_CLOSURE: &str = "#!/bin/sh
test -d /sysroot/nix/store/system || exit 1
echo NEW_INIT=/usr/lib/systemd/systemd > /etc/switch-root.conf
";

/// Lists the mounts, activates, and puts the running system's programs at the paths named by the units.
const ACTIVATE: &str = "#!/bin/sh
set -e
findmnt --list --noheadings --output TARGET > /run/at-activation
mkdir /run/initrd
cp -r /etc/systemd/system /run/initrd/etc
cp -r /usr/lib/systemd/system /run/initrd/usr
/boot/activate
ln -s /run/boot /sysroot/package
mount -t overlay -o lowerdir=/run/boot/store:/sysroot/nix/store overlay /sysroot/nix/store
cat /boot/passwd >> /sysroot/etc/passwd
cat /boot/group >> /sysroot/etc/group
";

const USERBORN: &str = "#!/bin/bash
findmnt --list --noheadings --output TARGET > /run/at-userborn
echo media:x:777:777::/var/empty:/bin/false >> /etc/passwd
echo media:x:777: >> /etc/group
";

/// A boot of a host.
fn boot(host: &'static str) -> Boot {
    let store = |path: &str| format!("boot/store/{path}");
    let script = |name: &str| format!("nix/store/unit-script-{name}-start/bin/{name}-start");
    // Without userborn, activation makes them.
    let users = if host == "userborn" {
        ["", ""]
    } else {
        ["media:x:777:777::/var/empty:/bin/false\n", "media:x:777:\n"]
    };
    let wrappers = "#!/bin/bash\nfindmnt --list --noheadings --output TARGET > /run/at-wrappers\n";
    Boot::new(&manifest(host))
        .of_nixos(host)
        .in_initrd(&script("initrd-find-nixos-closure"), FIND_CLOSURE)
        .in_initrd(&script("initrd-nixos-activation"), ACTIVATE)
        .in_initrd("boot/passwd", users[0])
        .in_initrd("boot/group", users[1])
        .in_initrd(&store("unit-script-suid-sgid-wrappers-start/bin/suid-sgid-wrappers-start"), wrappers)
        .in_initrd(&store("userborn/bin/userborn"), USERBORN)
        .in_initrd(&store("coreutils/bin/ln"), "#!/bin/bash\nexec ln \"$@\"\n")
        .in_etc("tmpfiles.d/media.conf", "f /var/lib/media/by-tmpfiles 0640 media media - first\n")
        .probe(
            r#"
            fact root tmpfs "$(findmnt --noheadings --output FSTYPE /)"
            fact source /var/lib/media "$(findmnt --noheadings --output FSROOT /var/lib/media)"
            fact owner "750 media:media" "$(stat --format '%a %U:%G' /var/lib/media)"
            fact tmpfiles first "$(cat /var/lib/media/by-tmpfiles)"
            for mount in var/lib/nixos var/lib/media etc/machine-id nix persist run; do
                holds "$mount at activation" grep -qx "/sysroot/$mount" /run/at-activation
                holds "$mount at the wrappers" grep -qx "/$mount" /run/at-wrappers
            done
            verify() { ! systemd-analyze verify --man=no "$@" 2>&1 | grep -E "ordering cycle|imp-mount"; }
            holds "no cycle" verify default.target
            holds "no cycle at a switch" verify sysinit-reactivation.target
            export SYSTEMD_UNIT_PATH=/run/initrd/etc:/run/initrd/usr
            holds "no cycle in the initrd" verify initrd.target initrd-switch-root.target
            unset SYSTEMD_UNIT_PATH
            # Messages of PID 1 can be lost while journald starts again; the times of units cannot.
            times() {
                local key value id start=0 end=0 active=0
                {
                    systemctl show --all --property=Id,ActiveEnterTimestampMonotonic \
                        --property=ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic \
                        '*.service' '*.mount' '*.target'
                    echo
                } | while IFS== read -r key value; do
                    case $key in
                        Id) id=$value ;;
                        ExecMainStart*) start=$value ;;
                        ExecMainExit*) end=$value ;;
                        ActiveEnter*) active=$value ;;
                        *)
                            ((start == 0)) || echo "$start Starting $id"
                            ((end == 0)) || echo "$end Finished $id"
                            [[ $id == *.service ]] || ((active == 0)) || echo "$active Mounted $id"
                            start=0 end=0 active=0
                            ;;
                    esac
                done | sort --numeric-sort
            }
            order() { journalctl --sync; journalctl --merge --no-pager --output=cat _PID=1; times; }
            tell order order
            well
            "#,
        )
}

/// PID 1 started the units in this order, without a cycle.
#[track_caller]
fn in_order(console: &Console, words: &[&str]) {
    let said = console.told("order");
    assert!(!said.iter().any(|line| line.contains("ordering cycle")), "{console:?}");
    let mut rest = said.iter();
    for word in words {
        assert!(rest.any(|line| line.contains(word)), "no {word:?} after those before it in\n{console:?}");
    }
}

/// From the initrd's mounts until the running system takes over.
const INITRD: [&str; 6] = [
    "initrd-fs.target",
    "initrd-find-nixos-closure.service",
    "Starting imp-mount.service",
    "Finished imp-mount.service",
    "Finished initrd-nixos-activation.service",
    "Starting initrd-switch-root.service",
];

fn a_tmpfs_root() {
    let computer = Computer::new(On::Here);
    for _ in 0..2 {
        let console = computer.boot(&boot("plain")).passed();
        in_order(&console, &INITRD);
        in_order(&console, &["Finished imp-mount-settle.service", "Starting systemd-tmpfiles-setup.service"]);
    }
    // A required entry whose source is now a file.
    computer.drive("persist").visit(|store| {
        fs::remove_dir_all(store.join("var/lib/media")).unwrap();
        fs::write(store.join("var/lib/media"), "").unwrap();
    });
    computer.boot(&boot("plain")).emergency().says(&["FAILED UNIT imp-mount.service"]);
}

fn a_disk_of_the_running_system() {
    let drives = ["persist", "late"].map(|label| Drive::new(label, Fs::Ext4, 64));
    let computer = Computer::with(On::Here, Suite::Stable, drives.into());
    // Units of systemd-fstab-generator for the host's fstab.
    let boot = boot("late")
        .in_etc(
            "systemd/system/srv.mount",
            "[Unit]\nBefore=local-fs.target\n[Mount]\nWhat=/dev/disk/by-label/late\nWhere=/srv\nType=ext4\n",
        )
        .in_etc("systemd/system/local-fs.target.d/srv.conf", "[Unit]\nRequires=srv.mount\n")
        .in_etc("tmpfiles.d/photos.conf", "f /srv/photos/by-tmpfiles 0644 - - - first\n");
    for _ in 0..2 {
        let console = computer.boot(&boot.clone().probe(
            r#"
            fact photos /srv/photos "$(findmnt --noheadings --output FSROOT /srv/photos)"
            fact below "$(realpath /dev/disk/by-label/late)" "$(findmnt --noheadings --output SOURCE /srv)"
            holds "known to PID 1" timeout 10 bash -c "until systemctl --quiet is-active srv-photos.mount; do sleep .1; done"
            "#,
        ));
        let console = console.passed();
        in_order(&console, &INITRD);
        in_order(
            &console,
            &[
                "Mounted srv.mount",
                "local-fs.target",
                "Starting imp-mount-live.service",
                "Finished imp-mount-live.service",
                "Finished imp-mount-settle.service",
                "Starting systemd-tmpfiles-setup.service",
            ],
        );
    }
    computer.drive("persist").visit(|store| {
        assert_eq!(fs::read_to_string(store.join("srv/photos/by-tmpfiles")).unwrap(), "first");
        fs::remove_dir_all(store.join("srv/photos")).unwrap();
        fs::write(store.join("srv/photos"), "").unwrap();
    });
    computer.boot(&boot).emergency_of_the_system().says(&["FAILED UNIT imp-mount-live.service"]);
}

fn users_of_userborn() {
    let computer = Computer::new(On::Here);
    for _ in 0..2 {
        let console = computer.boot(&boot("userborn").probe(
            r#"
            for mount in var/lib/nixos var/lib/media etc/machine-id; do
                holds "$mount at userborn" grep -qx "/$mount" /run/at-userborn
            done
            "#,
        ));
        let console = console.passed();
        in_order(&console, &INITRD);
        in_order(
            &console,
            &[
                "Finished userborn.service",
                "Starting imp-mount-settle.service",
                "Finished imp-mount-settle.service",
                "Starting systemd-tmpfiles-setup.service",
            ],
        );
    }
}
