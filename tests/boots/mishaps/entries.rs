//! Entries with errors: required ones stop the boot, optional ones are guarded, and some can be skipped.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{manifest, stops, unharmed, write};
use crate::boot::Boot;
use crate::computer::{Computer, On};
use crate::support::command::sh_on;

tests![required_and_of_the_wrong_kind, optional_and_of_the_wrong_kind];

/// Objects of unexpected types. The links lead to a folder of the initrd, and from there of the root.
fn misplaced(store: &Path) {
    write(&store.join("file"), "precious");
    write(&store.join("folder/inside"), "precious");
    sh_on("mkfifo", &[&store.join("pipe")]);
    symlink("/victim", store.join("link")).unwrap();
    symlink("/victim", store.join("planted")).unwrap();
    fs::create_dir(store.join("good")).unwrap();
}

const VICTIM: &str = "/victim/file";

fn wrong(required: bool) -> Value {
    manifest(&json!([
        { "directory": "/var/lib/good", "source": "/good" },
        { "directory": "/var/lib/file", "source": "/file", "required": required },
        { "file": "/etc/folder", "source": "/folder", "required": required },
        { "directory": "/var/lib/pipe", "source": "/pipe", "required": required },
        { "directory": "/var/lib/link", "source": "/link", "user": 1000, "mode": "0700", "enforce": true, "required": required },
        { "directory": "/var/lib/deep", "source": "/planted/deep", "user": 1000, "required": required },
    ]))
}

fn computer() -> Computer {
    let computer = Computer::new(On::Here);
    computer.drive("persist").visit(misplaced);
    computer
}

/// The state of each entry, as printed by imp-mount.
const CAUSES: [(&str, &str); 5] = [
    ("/etc/folder", "/persist/folder is a directory, not a regular file; move it away, or correct the entry"),
    (
        "/var/lib/deep",
        "/persist/planted is a symbolic link to /victim, and links are never followed; put a directory in its place, or name \
         the place that it points to",
    ),
    ("/var/lib/file", "/persist/file is a regular file, not a directory; move it away, or correct the entry"),
    (
        "/var/lib/link",
        "/persist/link is a symbolic link to /victim, and links are never followed; put a directory in its place, or name the \
         place that it points to",
    ),
    ("/var/lib/pipe", "/persist/pipe is a FIFO, not a directory; move it away, or correct the entry"),
];

/// Prints the targets of the links, and the mounts.
const LOOK: &str = r"
    find /victim -exec stat -c 'VICTIM %n %F %a %u %g' {} +
    findmnt --list --noheadings --output TARGET | sed 's/^/MOUNTED /'
";

/// Facts about a guarded path.
const GUARDED: &str = r#"
    for path in /var/lib/{file,pipe,link,deep} /etc/folder; do
        fact "guard of $path" "0 0 0" "$(stat --format '%a %u %g' "$path")"
        fact "options of $path" ro,nosuid,nodev,noexec,relatime "$(findmnt --noheadings --output VFS-OPTIONS "$path")"
    done
    for name in file pipe link deep; do
        fails "write to $name" touch "/var/lib/$name/new"
    done
    fails "write to folder" dd status=none if=/dev/zero of=/etc/folder count=1
    fact good /good "$(findmnt --noheadings --output FSROOT /var/lib/good)"
"#;

fn required_and_of_the_wrong_kind() {
    let computer = computer();
    let boot = Boot::new(&wrong(true)).in_initrd(VICTIM, "untouched");
    let lines = CAUSES.map(|(target, cause)| format!("wrong source        {target}: {cause}"));
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.extend([
        "not mounted         /var/lib/good: nothing is mounted: a required path failed",
        "-> correct each wrong source, as its line says",
        "-> to boot without what is wrong for once, and without a shell: add \
             imp-mount.skip=/etc/folder,/var/lib/deep,/var/lib/file,/var/lib/link,/var/lib/pipe to the kernel command line, in \
             the boot menu",
        "-> when all is well, leave the emergency shell with: systemctl default",
        "EXIT 1",
    ]);
    let console = stops(&computer, &boot.clone().in_emergency(LOOK), "imp-mount.service", &lines);
    // Nothing at the end of the links, and nothing half done.
    let victim: Vec<_> = console.lines("VICTIM ").collect();
    assert_eq!(victim, ["/victim directory 755 0 0", "/victim/file regular file 644 0 0"], "{console:?}");
    assert!(console.lines("MOUNTED ").any(|at| at == "/sysroot/persist"), "{console:?}");
    let below = |at: &str| at.starts_with("/sysroot/var") || at.starts_with("/sysroot/etc");
    assert!(!console.lines("MOUNTED ").any(below), "{console:?}");

    // The ways out.
    let targets = CAUSES.map(|(target, _)| target).join(",");
    let skipped = boot.clone().cmdline(&format!("imp-mount.skip={targets}")).probe(GUARDED).probe(
        r"
        well
        ",
    );
    unharmed(&computer, || computer.boot(&skipped)).passed();
    let off = boot
        .cmdline("imp-mount=off")
        .probe("fails mounts findmnt /var/lib/good\nholds store findmnt /persist\n");
    unharmed(&computer, || computer.boot(&off)).passed();
}

fn optional_and_of_the_wrong_kind() {
    let computer = computer();
    let daemon = "[Service]\nType=oneshot\nStateDirectory=file\nExecStart=touch /var/lib/file/new\n";
    let boot = Boot::new(&wrong(false))
        .in_initrd(VICTIM, "untouched")
        .in_etc("systemd/system/daemon.service", daemon)
        .in_etc("systemd/system/multi-user.target.d/daemon.conf", "[Unit]\nWants=daemon.service\n")
        .probe(GUARDED)
        .probe(
            r#"
            fact state degraded "$state"
            fact failed daemon.service "$(systemctl --failed --no-legend --plain | cut -d' ' -f1)"
            # Who said it has ended, perhaps before journald could look up its unit; but it said that itself.
            holds reason grep --quiet 'Failed at step STATE_DIRECTORY .*: Read-only file system' <(journalctl --boot UNIT=daemon.service)
            tell check imp-mount --check
            tell journal journalctl --boot --no-pager --output=cat --identifier=imp-mount
            "#,
        );
    let console = unharmed(&computer, || computer.boot(&boot)).passed();
    for (target, cause) in CAUSES {
        let line = format!("not mounted         {target}: guarded: {cause}");
        assert!(console.told("check").contains(&line.as_str()), "no {line:?}\n{console:?}");
        let line = format!("{target}: {cause}");
        assert!(console.told("journal").contains(&line.as_str()), "no {line:?}\n{console:?}");
    }
}
