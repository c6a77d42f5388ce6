//! Stores: on every file system, mounted by systemd and by imp-mount, and stacked on one another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::support::Fs;
use crate::support::command::sh_on;

tests![
    store_on_ext4,
    store_on_btrfs,
    store_on_xfs,
    store_on_btrfs_of_a_new_kernel,
    store_that_is_mounted_by_us,
    store_and_root_of_a_new_kernel_that_are_ours,
    entries_of_two_stores_inside_each_other,
];

fn store_on_ext4() {
    two_boots(On::Here, Fs::Ext4, 64);
}

fn store_on_btrfs() {
    two_boots(On::Here, Fs::Btrfs, 128);
}

fn store_on_xfs() {
    two_boots(On::Here, Fs::Xfs, 300);
}

fn store_on_btrfs_of_a_new_kernel() {
    two_boots(On::Uml, Fs::Btrfs, 128);
}

/// A directory and a file, whatever the store is.
fn entries() -> Value {
    json!([
        { "directory": "/var/lib/app", "user": 193, "group": 194, "mode": "0750" },
        { "file": "/etc/app.conf", "missing": "create", "mode": "0640" },
    ])
}

/// They are there, as the second boot finds them.
const SECOND: &str = r#"
    fact kept "content" "$(cat /var/lib/app/file)"
    fact configured "option" "$(cat /etc/app.conf)"
    fact forgotten "" "$(ls /var/lib/other 2> /dev/null)"
"#;

/// They are there and empty.
const FIRST: &str = r#"
    fact empty "" "$(ls -A /var/lib/app)"
    fact created "0 0:0 640" "$(stat --format '%s %u:%g %a' /etc/app.conf)"
    echo content > /var/lib/app/file
    echo option > /etc/app.conf
    mkdir /var/lib/other
    touch /var/lib/other/file
"#;

/// The store holds them, and nothing else.
fn holds_both(store: &Path) {
    assert_eq!(fs::read_to_string(store.join("var/lib/app/file")).unwrap(), "content\n");
    assert_eq!(fs::read_to_string(store.join("etc/app.conf")).unwrap(), "option\n");
    let folder = fs::metadata(store.join("var/lib/app")).unwrap();
    assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (193, 194, 0o750));
    assert!(!store.join("var/lib/other").exists());
}

fn two_boots(on: On, fs: Fs, mib: u64) {
    let drive = Drive::new("persist", fs, mib);
    let (fstype, folder, options) = match fs {
        Fs::Btrfs => ("btrfs", "@persist", "subvol=@persist"),
        Fs::Xfs => ("xfs", "", ""),
        Fs::Ext4 | Fs::F2fs | Fs::Folder => ("ext4", "", ""),
    };
    if fs == Fs::Btrfs {
        drive.visit(|top| sh_on("btrfs subvolume create", &[&top.join(folder)]));
    }
    let suite = if on == On::Here { Suite::Stable } else { Suite::Testing };
    let computer = Computer::with(on, suite, vec![drive]);
    let manifest = json!({ "version": 1, "stores": [{ "path": "/persist" }], "entries": entries() });
    let store = Path::new("/").join(folder);
    let source = store.join("var/lib/app");
    let mut both = Boot::new(&manifest).store("LABEL=persist", "/persist", fstype, options).probe(&format!(
        r#"
        well
        fact "store's type" {fstype} "$(findmnt --noheadings --output FSTYPE /persist)"
        fact "store's root" {} "$(findmnt --noheadings --output FSROOT /persist)"
        fact source {} "$(findmnt --noheadings --output FSROOT /var/lib/app)"
        fact disk "$(findmnt --noheadings --nofsroot --output SOURCE /persist)" \
            "$(findmnt --noheadings --nofsroot --output SOURCE /var/lib/app)"
        fact owner "193:194 750" "$(stat --format '%u:%g %a' /var/lib/app)"
        "#,
        store.display(),
        source.display(),
    ));
    if on != On::Here {
        both = both.probe(
            r#"
            fact "whose mount" /etc/fstab "$(systemctl show --value --property SourcePath persist.mount)"
            holds "mounted in the initrd" grep Mounted <(journalctl --boot --unit sysroot-persist.mount)
            "#,
        );
    }
    let look = |computer: &Computer| {
        computer.drive("persist").is_clean().visit(|top| holds_both(&top.join(folder)));
    };
    computer.boot(&both.clone().probe(FIRST)).passed();
    look(&computer);
    computer.boot(&both.probe(SECOND)).passed();
    look(&computer);
}

/// A store mounted only by imp-mount.
fn own_store(device: &str, root: Value) -> Value {
    json!({
        "version": 1,
        "root": root,
        "stores": [{ "path": "/persist", "device": device, "options": ["noatime", "commit=7"] }],
        "entries": entries(),
    })
}

/// The store is mounted as in the manifest, without a unit.
const OWN_STORE: &str = r#"
    well
    fact "store's type" ext4 "$(findmnt --noheadings --output FSTYPE /persist)"
    holds noatime grep noatime <(findmnt --noheadings --output VFS-OPTIONS /persist)
    holds commit grep commit=7 <(findmnt --noheadings --output FS-OPTIONS /persist)
    fact "whose mount" /proc/self/mountinfo "$(systemctl show --value --property SourcePath persist.mount)"
    fact source /var/lib/app "$(findmnt --noheadings --output FSROOT /var/lib/app)"
"#;

fn store_that_is_mounted_by_us() {
    let computer = Computer::new(On::Here);
    let named = |device| Boot::new(&own_store(device, Value::Null)).without("/persist").probe(OWN_STORE);
    computer.boot(&named("LABEL=persist").probe(FIRST)).passed();
    computer.drive("persist").is_clean().visit(holds_both);
    computer.boot(&named("/dev/disk/by-label/persist").probe(SECOND)).passed();
    computer.drive("persist").is_clean().visit(holds_both);
}

fn store_and_root_of_a_new_kernel_that_are_ours() {
    let uuid = "5a3c9a52-91c3-4f2c-8b0a-1c6f8e1b7d11";
    let drive = Drive::formatted("persist", Fs::Ext4, 64, &format!("-U {uuid}"));
    let computer = Computer::with(On::Uml, Suite::Testing, vec![drive]);
    let both = Boot::new(&own_store(&format!("UUID={uuid}"), json!({ "size": "64M" })))
        .without("/persist")
        .without("/")
        // Setting of the installer: the disk may come later than others.
        .in_initrd("etc/systemd/system/imp-mount-early.service.d/disk.conf", &{
            let device = format!(r"dev-disk-by\x2duuid-{}.device", uuid.replace('-', r"\x2d"));
            format!("[Unit]\nWants={device}\nAfter={device}\n")
        })
        .probe(OWN_STORE)
        .probe(r#"fact "root's size" 67108864 "$(findmnt --noheadings --bytes --output SIZE /)""#);
    computer.boot(&both.clone().probe(FIRST)).passed();
    computer.drive("persist").is_clean().visit(holds_both);
    computer.boot(&both.probe(SECOND)).passed();
    computer.drive("persist").is_clean().visit(holds_both);
}

fn entries_of_two_stores_inside_each_other() {
    let disks = ["persist", "data"].map(|label| Drive::new(label, Fs::Ext4, 64));
    let computer = Computer::with(On::Here, Suite::Stable, disks.into());
    let alice = |mut entry: Value| {
        let owner = json!({ "user": 1000, "group": 100, "mode": "0700" });
        entry.as_object_mut().unwrap().extend(owner.as_object().unwrap().clone());
        entry
    };
    // Not in the order in which they have to be mounted.
    let manifest = json!({
        "version": 1,
        "stores": [{ "path": "/persist" }, { "path": "/data" }],
        "entries": [
            alice(json!({ "directory": "/home/alice/.config", "store": "/persist" })),
            { "directory": "/var/lib/docker/volumes", "store": "/persist" },
            { "directory": "/var/lib/docker", "store": "/data", "mode": "0710" },
            { "directory": "/var/lib", "store": "/persist" },
            alice(json!({ "directory": "/home/alice", "store": "/data", "source": "/alice" })),
        ],
    });
    let both = Boot::new(&manifest).store("LABEL=data", "/data", "ext4", "").probe(
        r#"
        well
        # lies TARGET ON LABEL SOURCE: once, on the mount of another one, from this disk.
        lies() {
            fact "$1 lies on $2" "$(findmnt --noheadings --output ID "$2")" \
                "$(findmnt --noheadings --output PARENT "$1")"
            fact "$1 comes from $3" "$(readlink --canonicalize "/dev/disk/by-label/$3")[$4]" \
                "$(findmnt --noheadings --output SOURCE "$1")"
        }
        lies /var/lib / persist /var/lib
        lies /var/lib/docker /var/lib data /var/lib/docker
        lies /var/lib/docker/volumes /var/lib/docker persist /var/lib/docker/volumes
        lies /home/alice / data /alice
        lies /home/alice/.config /home/alice persist /home/alice/.config
        fact "owners" "1000:100 700 1000:100 700 0:0 710" \
            "$(stat --format '%u:%g %a' /home/alice /home/alice/.config /var/lib/docker | xargs)"
        # A mount would be copied to where its parent is seen, too, if it were shared.
        fact "on the stores themselves" "" "$(findmnt --noheadings --list --output TARGET | grep -E '^/(persist|data)/')"
        "#,
    );
    let files = [
        ("persist", "var/lib/a"),
        ("data", "var/lib/docker/b"),
        ("persist", "var/lib/docker/volumes/c"),
        ("data", "alice/d"),
        ("persist", "home/alice/.config/e"),
    ];
    let look = || {
        for label in ["persist", "data"] {
            computer.drive(label).is_clean().visit(|store| {
                for (on, file) in files {
                    let found = fs::read_to_string(store.join(file)).ok();
                    assert_eq!(found, (on == label).then(|| format!("{file}\n")), "{label}: {file}");
                }
            });
        }
    };
    computer
        .boot(&both.clone().probe(
            r"
            echo var/lib/a > /var/lib/a
            echo var/lib/docker/b > /var/lib/docker/b
            echo var/lib/docker/volumes/c > /var/lib/docker/volumes/c
            echo alice/d > /home/alice/d
            echo home/alice/.config/e > /home/alice/.config/e
            ",
        ))
        .passed();
    look();
    computer
        .boot(&both.probe(
            r#"
            fact kept "var/lib/a var/lib/docker/b var/lib/docker/volumes/c alice/d home/alice/.config/e" \
                "$(cat /var/lib/a /var/lib/docker/b /var/lib/docker/volumes/c /home/alice/d /home/alice/.config/e | xargs)"
            "#,
        ))
        .passed();
    look();
}
