//! The root: a tmpfs of systemd's or of ours, a directory of a store, and a system found on the store.

use std::fs;

use rustix::fs::{XattrFlags, lsetxattr};
use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite, prepared};
use crate::drive::Drive;
use crate::support::Fs;
use crate::support::command::sh_on;

tests![
    root_that_systemd_mounts,
    root_that_we_build,
    root_on_ext4,
    root_on_xfs,
    root_on_btrfs,
    root_on_f2fs,
    root_on_a_store_of_an_old_kernel,
    system_on_the_store_below_a_root_of_systemd,
    system_on_the_store_below_a_root_of_ours,
];

/// One directory, and this root.
fn manifest(root: Value) -> Value {
    json!({
        "version": 1,
        "root": root,
        "stores": [{ "path": "/persist" }],
        "entries": [{ "directory": "/var/lib/app" }],
    })
}

fn root_that_systemd_mounts() {
    let boot = Boot::new(&manifest(Value::Null));
    let boot = boot.mount("tmpfs", "/", "tmpfs", "mode=0751,size=48M,nr_inodes=9k");
    two_boots(&boot.probe(
        r#"
        fact "root's source" tmpfs "$(findmnt --noheadings --output SOURCE /)"
        fact "root's mode" 751 "$(stat --format %a /)"
        fact "root's size" $((48 << 20)) "$(findmnt --noheadings --bytes --output SIZE /)"
        fact "root's inodes" $((9 << 10)) "$(stat --file-system --format %c /)"
        "#,
    ));
}

fn root_that_we_build() {
    let root = json!({ "size": "96M", "mode": "0755", "inodes": "20k", "options": ["noatime"] });
    let boot = Boot::new(&manifest(root)).without("/");
    two_boots(&boot.probe(
        r#"
        fact "root's source" imp-mount "$(findmnt --noheadings --output SOURCE /)"
        fact "root's mode" "0:0 755" "$(stat --format '%u:%g %a' /)"
        fact "root's size" $((96 << 20)) "$(findmnt --noheadings --bytes --output SIZE /)"
        fact "root's inodes" $((20 << 10)) "$(stat --file-system --format %c /)"
        holds "root's options" grep noatime <(findmnt --noheadings --output VFS-OPTIONS /)
        # What systemd mounted before there was a root lies on it all the same.
        fact "store lies on root" "$(findmnt --noheadings --output ID /)" "$(findmnt --noheadings --output PARENT /persist)"
        fact "nix lies on root" "$(findmnt --noheadings --output ID /)" "$(findmnt --noheadings --output PARENT /nix)"
        "#,
    ));
}

/// The root is a new one each time.
fn two_boots(boot: &Boot) {
    let computer = Computer::new(On::Here);
    let both = boot.clone().probe(
        r#"
        well
        fact "root's type" tmpfs "$(findmnt --noheadings --output FSTYPE /)"
        fails lost test -e /etc/lost
        touch /etc/lost
        "#,
    );
    computer
        .boot(&both.clone().probe(
            r#"
            fact empty "" "$(ls -A /var/lib/app)"
            echo kept > /var/lib/app/file
            "#,
        ))
        .passed();
    computer.boot(&both.probe(r#"fact kept kept "$(cat /var/lib/app/file)""#)).passed();
    computer.drive("persist").is_clean().visit(|store| {
        assert_eq!(fs::read_to_string(store.join("var/lib/app/file")).unwrap(), "kept\n");
        assert!(!store.join("etc").exists(), "the root is on the store");
    });
}

fn root_on_ext4() {
    root_on_a_store(On::Here, Drive::new("persist", Fs::Ext4, 64));
}

fn root_on_xfs() {
    root_on_a_store(On::Here, Drive::new("persist", Fs::Xfs, 320));
}

fn root_on_btrfs() {
    root_on_a_store(On::Here, Drive::new("persist", Fs::Btrfs, 160));
}

/// Its module is loaded by hand: the initrd of these machines has none.
const LOAD_F2FS: &str = "[Unit]
DefaultDependencies=no
Before=sysroot-persist.mount
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/busybox insmod /f2fs.ko
";

fn root_on_f2fs() {
    root_on_a_store(On::Uml, Drive::new("persist", Fs::F2fs, 128));
}

fn root_on_a_store_of_an_old_kernel() {
    root_on_a_store(On::OldUml, Drive::new("persist", Fs::Ext4, 64));
}

/// Each boot has a new root, and the files of earlier roots are still readable by root.
fn root_on_a_store(on: On, drive: Drive) {
    let kind = drive.fs;
    let fstype = format!("{kind:?}").to_lowercase();
    let suite = if on == On::Uml { Suite::Testing } else { Suite::Stable };
    let computer = Computer::with(on, suite, vec![drive]);
    let root = json!({ "on": "/persist", "mode": "0751" });
    let boot =
        Boot::new(&manifest(root)).store("LABEL=persist", "/persist", &fstype, "nosuid,nodev").without("/");
    let boot = if kind == Fs::F2fs {
        let module = fs::read(prepared().join("uml-new-f2fs.ko")).unwrap();
        boot.in_initrd("f2fs.ko", module).in_initrd("etc/systemd/system/f2fs.service", LOAD_F2FS).in_initrd(
            "etc/systemd/system/sysroot-persist.mount.d/f2fs.conf",
            "[Unit]\nRequires=f2fs.service\n",
        )
    } else {
        boot
    };
    // The tests' kernel may lack f2fs.
    let is_visible = kind != Fs::F2fs;
    for number in 1..=3 {
        let last = if number > 1 || is_visible { (number - 1).to_string() } else { String::new() };
        let boot = boot.clone().probe(&format!(
            r#"
            well
            roots=/persist/.imp-mount/roots
            fact "root's type" {fstype} "$(findmnt --noheadings --output FSTYPE /)"
            fact "root's directory" yes "$(findmnt --noheadings --output FSROOT / | grep -q '/roots/{number}/root$' && echo yes)"
            fact "the same" "$(stat --format %d:%i /)" "$(stat --format %d:%i $roots/{number}/root)"
            fact "root's mode" "0:0 751" "$(stat --format '%u:%g %a' /)"
            fails "restrictions of the store" grep -E 'nosuid|nodev' <(findmnt --noheadings --output VFS-OPTIONS /)
            fact "mounts in the store" 1 "$(findmnt --noheadings --raw --output TARGET | grep -c '^/persist')"
            fails empty test -e /etc/lost
            fact "earlier" "{last}" "$(cat $roots/{last}/root/etc/lost)"
            fact closed 700 "$(stat --format %a $roots)"
            holds remount mount -o remount,rw /
            holds space test "$(stat --file-system --format %b /)" = "$(stat --file-system --format %b /persist)"
            fact kept "{last}" "$(cat /var/lib/app/file)"
            echo {number} > /etc/lost
            echo {number} > /var/lib/app/file
            "#,
        ));
        if number == 1 && is_visible {
            computer.drive("persist").visit(|store| {
                fs::create_dir_all(store.join("var/lib/app")).unwrap();
                fs::write(store.join("var/lib/app/file"), "0\n").unwrap();
                sh_on("mkdir -m 700 -p", &[&store.join(".imp-mount/roots")]);
                sh_on("chmod 700", &[&store.join(".imp-mount")]);
                fs::create_dir_all(store.join(".imp-mount/roots/0/root/etc")).unwrap();
                fs::write(store.join(".imp-mount/roots/0/root/etc/lost"), "0\n").unwrap();
                // imp-mount's mark of its own directory.
                lsetxattr(store.join(".imp-mount"), "trusted.imp-mount.private", b"", XattrFlags::empty())
                    .unwrap();
            });
        }
        computer.boot(&boot).passed();
    }
    let drive = computer.drive("persist");
    drive.is_clean();
    if !is_visible {
        return;
    }
    drive.visit(|store| {
        for number in 1..=3 {
            let lost = store.join(format!(".imp-mount/roots/{number}/root/etc/lost"));
            assert_eq!(fs::read_to_string(lost).unwrap(), format!("{number}\n"));
        }
        assert_eq!(fs::read_to_string(store.join("var/lib/app/file")).unwrap(), "3\n");
    });
}

fn system_on_the_store_below_a_root_of_systemd() {
    system_on_the_store(Value::Null, |boot| boot);
}

fn system_on_the_store_below_a_root_of_ours() {
    system_on_the_store(json!({}), |boot| boot.without("/"));
}

/// NixOS's search for the system to boot.
const FIND: &str = "[Unit]
DefaultDependencies=no
RequiresMountsFor=/sysroot/nix/store
Before=initrd.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ls /sysroot/nix/store > /run/found'
";

fn system_on_the_store(root: Value, change: fn(Boot) -> Boot) {
    let computer = Computer::with(On::Here, Suite::Stable, vec![Computer::installed(Suite::Stable)]);
    let mut manifest = manifest(root);
    let entries = manifest["entries"].as_array_mut().unwrap();
    entries.push(json!({ "directory": "/nix", "phase": "early" }));
    let boot = Boot::new(&manifest).store("LABEL=root", "/persist", "ext4", "").without("/nix");
    let both = change(boot)
        .in_initrd("etc/systemd/system/initrd-find-nixos-closure.service", FIND)
        .in_initrd(
            "etc/systemd/system/initrd.target.d/find.conf",
            "[Unit]\nRequires=initrd-find-nixos-closure.service\n",
        )
        .probe(
            r#"
            well
            fact found system "$(cat /run/found)"
            fact "root's type" tmpfs "$(findmnt --noheadings --output FSTYPE /)"
            fact "what is at /nix" "$(findmnt --noheadings --nofsroot --output SOURCE /persist) /nix" \
                "$(findmnt --noheadings --nofsroot --output SOURCE,FSROOT --raw /nix)"
            fact "where it runs from" /nix/store/system/usr "$(findmnt --noheadings --output FSROOT /usr)"
            "#,
        );
    computer.boot(&both.clone().probe("echo kept > /var/lib/app/file\n")).passed();
    computer.boot(&both.probe(r#"fact kept kept "$(cat /var/lib/app/file)""#)).passed();
    computer.drive("root").is_clean().visit(|store| {
        assert_eq!(fs::read_to_string(store.join("var/lib/app/file")).unwrap(), "kept\n");
    });
}
