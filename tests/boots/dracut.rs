//! An installed Debian whose initrd dracut makes, converted as docs/dracut.md says.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::boot::{compile, probe_script, probe_unit};
use crate::computer::{Computer, Hardware, On, Suite, prepared};
use crate::console::Console;
use crate::drive::Drive;
use crate::mishaps::LAST;
use crate::support::{Fs, Snapshot, run, scratch};

tests![debian_with_dracut];

fn debian_with_dracut() {
    let debian = Debian::new();
    let disk = || debian.disk().is_clean().visit(Snapshot::of);

    debian.probe(&format!(
        r#"
        {}
        fact owner "2775 0 8" "$(stat --format '%a %u %g' /var/mail)"
        fact "no nosuid" "" "$(findmnt --noheadings --output OPTIONS /usr | grep --word-regexp nosuid)"
        echo kept > /var/lib/kept
        echo kept > /srv/kept
        echo kept > /var/note-one
        fact lent "777 0755" "$(stat --format '%u 0%a' /var/lent)"
        echo lost > /lost
        echo lost > /var/lost
        "#,
        converted()
    ));
    let installed = disk();
    debian.boot("").passed();
    let first = disk();
    // The new user is for systemd-sysusers to write.
    let users = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];
    let mut losses = installed.losses(&first);
    losses.retain(|line| !users.iter().any(|file| line.starts_with(file)));
    assert_eq!(losses, [""; 0]);
    for (path, there) in [
        ("var/lib/kept", true),
        ("srv/kept", true),
        ("var/note-one", true),
        ("lost", false),
        ("var/lost", false),
    ] {
        assert_eq!(first.line(path).is_some(), there, "{path}");
    }

    debian.probe(&format!(
        r#"
        {}
        fact kept "kept kept kept" "$(cat /var/lib/kept /srv/kept /var/note-one | xargs)"
        fact lent borrower "$(stat --format %U /var/lent)"
        fails lost test -e /lost
        fails "lost in /var" test -e /var/lost
        "#,
        converted()
    ));
    debian.boot("").passed();

    debian.probe(
        r#"
        well
        fact "root's type" ext4 "$(findmnt --noheadings --output FSTYPE /)"
        fails "no store" mountpoint --quiet /persist
        fact "old and new state" "unnamed kept kept" "$(cat /unnamed /var/lib/kept /srv/kept | xargs)"
        "#,
    );
    debian.boot("imp-mount=off").passed().says(&["switched off by imp-mount=off"]);

    let before = debian.disk().is_clean().visit(|root| {
        fs::remove_file(root.join("srv/kept")).unwrap();
        fs::remove_dir(root.join("srv")).unwrap();
        fs::write(root.join("srv"), "precious").unwrap();
        Snapshot::of(root)
    });
    let console = debian.boot("").ended().lacks(&["PROBE"]);
    // The unit prints the error first; dracut's emergency hook prints its state.
    let (_, emergency) = console.text.split_once(LAST).unwrap_or_else(|| panic!("no {LAST:?}\n{console:?}"));
    let emergency = Console::unbroken(emergency);
    let wrong = "wrong source        /srv: /persist/srv is a regular file, not a directory; move it away";
    for words in [wrong, "14 paths, 0 ok, 15 problems", OFF] {
        assert!(emergency.contains(words), "no {words:?}\n{console:?}");
    }
    assert_eq!(before.losses(&debian.disk().visit(Snapshot::of)), [""; 0]);
    debian.disk().is_clean();
}

/// The first manifest of the page.
fn manifest() -> Value {
    let page = include_str!("../../docs/dracut.md");
    let block = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut manifest: Value = serde_json::from_str(block).unwrap();
    // Ids of Debian, on every test machine.
    manifest["ids"] = json!({ "groups": { "mail": 8 } });
    // A pattern, which is copied to the store only at shutdown, and a user known only to the system.
    let more = [json!({ "file": "/var/note-*" }), json!({ "directory": "/var/lent", "user": "borrower" })];
    manifest["entries"].as_array_mut().unwrap().extend(more);
    manifest
}

/// Files of the system with the disk as its store.
fn converted() -> String {
    let mut commands = String::from(
        r#"
        well
        fact "root's type" tmpfs "$(findmnt --noheadings --output FSTYPE /)"
        disk=$(readlink --canonicalize /dev/disk/by-label/root)
        fact "disk is the store" "$disk /" "$(findmnt --noheadings --nofsroot --raw --output SOURCE,FSROOT /persist)"
        fact "/bin" usr/bin "$(readlink /bin)"
        fails "unnamed on the root" test -e /unnamed
        fact "unnamed on the store" unnamed "$(cat /persist/unnamed)"
        "#,
    );
    for entry in manifest()["entries"].as_array().unwrap() {
        let Some(path) = entry["directory"].as_str() else { continue };
        writeln!(
            commands,
            "fact {path} \"$disk[{path}]\" \"$(findmnt --noheadings --output SOURCE {path})\""
        )
        .unwrap();
    }
    commands
}

/// A Debian on its disk, with an initrd by dracut.
struct Debian {
    computer: Computer,
    initrd: PathBuf,
}

/// Those of the running system.
const UNITS: [(&str, &str); 2] = [
    ("imp-mount-adopt.service", include_str!("../../initrd/dracut/system/imp-mount-adopt.service")),
    ("imp-mount-settle.service", include_str!("../../initrd/dracut/system/imp-mount-settle.service")),
];

/// Last line of dracut's emergency shell.
const OFF: &str = "EMERGENCY is over";

impl Debian {
    /// Installs imp-mount as in docs/dracut.md.
    fn new() -> Self {
        let tree = prepared().join("dracut");
        let drive = Drive::formatted("root", Fs::Ext4, 512, &format!("-d {}", tree.display()));
        let initrd = scratch().join("initrd");
        let compiled = Path::new("/tmp/compiled");
        fs::write(compiled, compile(&manifest())).unwrap();
        drive.visit(|root| {
            let put = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
            put("etc/fstab", "LABEL=root / ext4 defaults 0 1\n");
            put("unnamed", "unnamed\n");
            put("etc/systemd/system/probe.service", &probe_unit("/root/probe"));
            fs::create_dir_all(root.join("etc/sysusers.d")).unwrap();
            put("etc/sysusers.d/borrower.conf", "u borrower 777\n");
            for (name, text) in UNITS {
                put(&format!("etc/systemd/system/{name}"), text);
                assert!(text.contains("\nWantedBy=sysinit.target\n"), "{name}");
            }
            let wanted = UNITS.map(|(name, _)| ("sysinit", name));
            for (target, unit) in wanted.into_iter().chain([("multi-user", "probe.service")]) {
                let wants = root.join(format!("etc/systemd/system/{target}.target.wants"));
                fs::create_dir_all(&wants).unwrap();
                symlink(format!("../{unit}"), wants.join(unit)).unwrap();
            }
            // With rd.shell=0 dracut 106 runs none of these hooks, and otherwise rd.emergency= comes after the shell.
            put("root/off", &format!("echo '{OFF}'\npoweroff -f\n"));
            let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boots/dracut-tree"));
            let hook = ["--include", "/root/off", "/var/lib/dracut/hooks/emergency/99-off.sh"].map(Path::new);
            run(&[&[script, root, &prepared().join("imp-mount"), compiled, &initrd], &hook[..]].concat())
                .ok();
        });
        Self { computer: Computer::with(On::Qemu, Suite::Stable, vec![drive]), initrd }
    }

    fn disk(&self) -> &Drive {
        self.computer.drive("root")
    }

    /// Has the running system asked this at the next boots.
    fn probe(&self, commands: &str) {
        let script = probe_script(commands, "poweroff");
        self.disk().visit(|root| fs::write(root.join("root/probe"), script).unwrap());
    }

    /// Boots with additional kernel arguments.
    fn boot(&self, words: &str) -> Console {
        let words = format!(
            "root=LABEL=root ro quiet panic=-1 systemd.show_status=error systemd.log_target=journal {words}"
        );
        self.computer.boot_initrd(&Hardware::usual(), &self.initrd, &words)
    }
}
