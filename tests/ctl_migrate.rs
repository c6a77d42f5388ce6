//! `impctl migrate`: copies the manifest's paths to the stores, with all attributes, for the next boot to mount.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::inject::interrupt;
use crate::support::look::stat;
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs, Machine, Output, Root, json_of, namespace, run};

mod faults;
mod kept;
mod races;

use faults::{
    a_file_that_cannot_be_read, a_store_that_fills_up, a_store_that_goes_away,
    changes_during_the_copy_are_named, copies_that_are_of_no_use, errors_when_something_changes,
    errors_when_something_is_looked_at, killed_at_any_moment,
};
use kept::{
    a_directory_that_shows_more, a_nested_subvolume, a_path_on_the_root, a_top_that_differs,
    default_acls_give_no_access, device_nodes_are_left_out, hard_links_across_entries, inode_flags_are_kept,
    the_private_directory_stays,
};
use races::{a_directory_of_the_users_at_the_destination, a_user_at_the_destination, a_user_at_the_source};

tests![
    everything_is_kept: Disk,
    a_boot_finds_it: Disk,
    content_is_shared: Disk,
    places_of_entries: Disk,
    existing_files_stay: Disk,
    forced_files_are_replaced: Disk,
    files_that_cannot_be_copied: Disk,
    from_the_running_system: Disk,
    trees_that_do_not_fit_are_refused: Disk,
    without_a_store: Disk,
    a_path_on_the_root: Disk,
    a_tree_deeper_than_a_path: Disk,
    default_acls_give_no_access: Disk,
    inode_flags_are_kept: Disk,
    device_nodes_are_left_out: Disk,
    a_nested_subvolume: Disk,
    hard_links_across_entries: Disk,
    the_private_directory_stays: Disk,
    a_top_that_differs: Disk,
    a_directory_that_shows_more: Disk,
    a_store_that_goes_away: Disk Inject,
    a_store_that_fills_up: Disk Inject,
    copies_that_are_of_no_use: Disk Inject,
    a_file_that_cannot_be_read: Disk Inject,
    changes_during_the_copy_are_named: Disk Inject,
    a_user_at_the_source: Disk Inject,
    a_user_at_the_destination: Disk Inject,
    a_directory_of_the_users_at_the_destination: Disk Inject,
    killed_at_any_moment: Disk Inject,
    errors_when_something_changes: Disk Inject,
    errors_when_something_is_looked_at: Disk Inject,
];

const OLD: &str = "/tmp/old";
const NEW: &str = "/tmp/new";

/// Compiles a manifest with one store.
fn manifest(entries: Value) {
    let stores = json!([{ "path": "/persist" }]);
    compile(json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
}

fn compile(manifest: Value) {
    fs::write("/tmp/manifest.json", manifest.to_string()).unwrap();
    run(&[env!("CARGO_BIN_EXE_impctl"), "compile", "/tmp/manifest.json", "-o", "/tmp/manifest"]).ok();
}

fn line(words: &[&str]) -> Vec<String> {
    let line = [env!("CARGO_BIN_EXE_impctl"), "migrate", "--manifest", "/tmp/manifest", "--from", OLD];
    line.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// Migrates from the old root to the new store, with more arguments.
fn migrate(words: &[&str]) -> Output {
    run(&line(&[&["--store", NEW], words].concat()))
}

/// Migrates, and calls `act` before each of its calls of this name.
fn interrupted(call: &str, words: &[&str], mut act: impl FnMut()) -> Output {
    let line: Vec<OsString> =
        line(&[&["--store", NEW], words].concat()).into_iter().map(Into::into).collect();
    interrupt(Path::new("/"), &line, &mut |entry| {
        if entry.call.is_one_of(&[call]) {
            act();
        }
        true
    })
}

/// An old root and a new store, each on a disk of its own.
fn disks(old: Fs, new: Fs, mib: u64) -> (Disk, Disk) {
    let disks = (Disk::new(old, mib), Disk::new(new, mib));
    disks.0.mount(OLD);
    disks.1.mount(NEW);
    disks
}

fn old(path: &str) -> PathBuf {
    Path::new(OLD).join(path)
}

fn new(path: &str) -> PathBuf {
    Path::new(NEW).join(path)
}

fn write(path: impl AsRef<Path>, content: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Two trees are the same.
#[track_caller]
fn are_same(one: impl AsRef<Path>, other: impl AsRef<Path>, output: &Output) {
    let differences = Look::of(one.as_ref()).differences(&Look::of(other.as_ref()));
    assert_eq!(differences, [] as [&str; 0], "{output:?}");
}

/// A root with a file of every kind, and other files beside the entries.
fn fill_old() {
    trees::make(&old("var/lib/app"));
    write(old("etc/machine-id"), "id");
    write(old("etc/ssh/ssh_host_a"), "a");
    write(old("etc/ssh/ssh_host_b"), "b");
    write(old("etc/ssh/other"), "other");
    write(old("home/ada/photos/one"), "one");
    write(old("opt/forgotten/x"), "x");
    write(old("var/lib/left/x"), "x");
    chown(old("home/ada"), Some(1000), Some(100)).unwrap();
    fs::set_permissions(old("home/ada"), fs::Permissions::from_mode(0o710)).unwrap();
    chown(old("home/ada/photos"), Some(1000), Some(100)).unwrap();
}

fn entries() -> Value {
    json!([
        { "directory": "/var/lib/app" },
        { "directory": "/var/lib/none" },
        { "directory": "/home/ada/photos" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
        { "file": "/etc/ssh/ssh_host_*" },
    ])
}

fn everything_is_kept() {
    for (one, two) in [(Fs::Ext4, Fs::Xfs), (Fs::Xfs, Fs::Ext4), (Fs::Ext4, Fs::Btrfs)] {
        let (source, store) = disks(one, two, 128);
        fill_old();
        manifest(entries());
        let (source_before, before) = (source.snapshot(), store.snapshot());
        let dry = json_of(&migrate(&["--devices", "--dry-run", "--json"]).ok(), "migrate");
        assert_eq!((dry["entries"][4]["standing"].as_str(), store.snapshot()), (Some("incomplete"), before));
        assert!(dry["entries"][4]["missing_bytes"].as_u64().unwrap() > 33_000_000, "{dry}");
        let text = migrate(&["--devices", "--dry-run"]).ok();
        assert!(text.stdout.contains("to copy    /var/lib/app\n"), "{text:?}");

        let output = migrate(&["--devices"]).ok();
        for path in ["var/lib/app", "home/ada/photos", "etc/machine-id", "etc/ssh/ssh_host_b"] {
            are_same(old(path), new(path), &output);
        }
        let blocks = |path: PathBuf| fs::metadata(path).unwrap().blocks();
        assert!(blocks(new("var/lib/app/sparse")) <= blocks(old("var/lib/app/sparse")) + 256);
        assert_eq!(stat(new("home/ada")), (0o040_710, 1000, 100));
        let names: Vec<_> = fs::read_dir(NEW).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names.iter().all(|name| ["etc", "home", "var", "lost+found"].iter().any(|it| name == it)),
            "{names:?}"
        );
        assert!(!new("etc/ssh/other").exists() && !new("var/lib/left").exists());
        assert!(
            output.stdout.contains("Not named, and so not copied: /etc/ssh/other, /opt, /var/lib/left"),
            "{output:?}"
        );
        assert!(output.stdout.contains("`impctl lost --root /tmp/old`"), "{output:?}");
        assert_eq!(source.snapshot(), source_before);

        // Once more is nothing more.
        let (before, times) = (store.snapshot(), Look::of(Path::new(NEW)));
        let output = migrate(&["--devices"]).ok();
        assert!(output.stdout.contains("there already  /var/lib/app\n"), "{output:?}");
        assert_eq!((store.snapshot(), Look::of(Path::new(NEW))), (before, times));
        source.umount();
        store.umount();
    }
}

fn a_boot_finds_it() {
    for fs in [Fs::Ext4, Fs::Btrfs] {
        let machine = Machine::new(Root::Nothing, Disk::new(fs, 128));
        let disk = Disk::new(Fs::Ext4, 128);
        disk.mount(OLD);
        fill_old();
        let all =
            json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries() });
        machine.manifest(&all);
        compile(all);
        // As an installer does: the store is mounted below the new root.
        let output = run(&line(&["--store", machine.at("/persist").to_str().unwrap(), "--devices"])).ok();
        let output = [output, machine.reboot().ok()];
        for path in ["var/lib/app", "home/ada/photos", "etc/machine-id", "etc/ssh/ssh_host_a"] {
            are_same(old(path), machine.at(path), &output[1]);
        }
        assert_eq!(stat(machine.at("/home/ada")), (0o040_710, 1000, 100));
        machine.run(&["--check"]).ok();
        machine.power_off();
        disk.umount();
        fs::remove_dir_all("/tmp/machine").unwrap();
    }
}

fn content_is_shared() {
    for fs in [Fs::Btrfs, Fs::Xfs] {
        let disk = Disk::new(fs, 300);
        disk.mount("/tmp/disk");
        for (folder, place) in [("old", OLD), ("new", NEW)] {
            fs::create_dir_all(place).unwrap();
            fs::create_dir(Path::new("/tmp/disk").join(folder)).unwrap();
            namespace::bind(Path::new("/tmp/disk").join(folder), place);
        }
        trees::make(&old("srv/app"));
        fs::write(old("srv/app/big"), vec![7; 60 << 20]).unwrap();
        manifest(json!([{ "directory": "/srv/app" }]));
        rustix::fs::syncfs(File::open(OLD).unwrap()).unwrap();
        let used = || {
            rustix::fs::syncfs(File::open(OLD).unwrap()).unwrap();
            let room = rustix::fs::statvfs("/tmp/disk").unwrap();
            (room.f_blocks - room.f_bfree) * room.f_frsize
        };
        let before = used();
        let output = migrate(&["--devices", "--json"]).ok();
        assert_eq!(json_of(&output, "migrate")["stores"][0]["shared"], true, "{output:?}");
        are_same(old("srv/app"), new("srv/app"), &output);
        let grown = used().saturating_sub(before);
        assert!(grown < 20 << 20, "{fs:?}: {grown} more");
        // Shared blocks, separate files: a write to one file does not change the other.
        fs::write(old("srv/app/plain"), "changed").unwrap();
        assert_eq!(fs::read_to_string(new("srv/app/plain")).unwrap(), "plain");
        for place in [OLD, NEW] {
            nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
        disk.umount();
    }
}

fn places_of_entries() {
    let (one, two) = (Disk::new(Fs::Ext4, 16), Disk::new(Fs::Ext4, 16));
    let source = Disk::new(Fs::Ext4, 16);
    source.mount(OLD);
    one.mount("/tmp/one");
    two.mount("/tmp/two");
    for path in [
        "srv/a/file",
        "srv/a/other/file",
        "srv/a/moved/file",
        "srv/a/keys/k1",
        "srv/a/keys/x",
        "etc/conf",
        "etc/link-me",
    ] {
        write(old(path), path);
    }
    symlink("/etc/conf", old("etc/copied")).unwrap();
    fs::hard_link(old("srv/a/moved/file"), old("srv/a/moved/again")).unwrap();
    namespace::tmpfs(
        {
            fs::create_dir(old("srv/a/mnt")).unwrap();
            old("srv/a/mnt")
        },
        "mode=0700",
    );
    write(old("srv/a/mnt/foreign"), "foreign");
    compile(
        json!({ "version": 1, "root": {}, "stores": [{ "path": "/a" }, { "path": "/b", "required": false }, { "path": "/c", "required": false }],
        "entries": [
            { "directory": "/srv/a", "store": "/a" },
            { "directory": "/srv/a/other", "store": "/b" },
            { "directory": "/srv/a/moved", "store": "/a", "source": "/elsewhere/moved" },
            { "file": "/srv/a/keys/k*", "store": "/b" },
            { "file": "/etc/conf", "store": "/b", "source": "/conf.txt" },
            { "file": "/etc/copied", "store": "/a", "method": "copy" },
            { "directory": "/srv/c", "store": "/c" },
        ] }),
    );
    run(&line(&["--store", "/tmp/one"])).expect(2).says(&["has the stores /a, /b, /c", "--store /a=/mnt/a"]);
    let output = run(&line(&["--store", "/a=/tmp/one", "--store", "/b=/tmp/two"])).ok();
    output.clone().says(&["warning: store /c: ", "left out"]);
    let tree = |root: &str| {
        let found = run(&["find", root, "-not", "-name", "lost+found", "-printf", "%P\n"]).ok().stdout;
        let mut found: Vec<_> = found.lines().filter(|path| !path.is_empty()).map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(
        tree("/tmp/one"),
        [
            "elsewhere",
            "elsewhere/moved",
            "elsewhere/moved/again",
            "elsewhere/moved/file",
            "etc",
            "etc/copied",
            "srv",
            "srv/a",
            "srv/a/file",
            "srv/a/keys",
            "srv/a/keys/x"
        ]
    );
    assert_eq!(
        tree("/tmp/two"),
        ["conf.txt", "srv", "srv/a", "srv/a/keys", "srv/a/keys/k1", "srv/a/other", "srv/a/other/file"]
    );
    assert_eq!(fs::metadata("/tmp/one/elsewhere/moved/file").unwrap().nlink(), 2);
    assert_eq!(fs::read_link("/tmp/one/etc/copied").unwrap(), Path::new("/etc/conf"));
    assert!(output.stdout.contains("/srv/a/mnt: another file system"), "{output:?}");
}

fn existing_files_stay() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 16);
    for path in ["srv/a/same", "srv/a/differs", "srv/a/kind", "srv/a/more"] {
        write(old(path), path);
    }
    manifest(json!([{ "directory": "/srv/a" }]));
    run(&["cp", "-a", "/tmp/old/srv", NEW]).ok();
    fs::remove_file(new("srv/a/more")).unwrap();
    write(new("srv/a/differs"), "what the store has");
    fs::remove_file(new("srv/a/kind")).unwrap();
    write(new("srv/a/kind/of"), "a folder");
    write(new("srv/a/only-there"), "kept");
    chown(new("srv/a"), Some(1), Some(2)).unwrap();
    let before = store.snapshot();
    let output = migrate(&[]).expect(1);
    for words in [
        ["error: /srv/a/differs: ", "differs in size; the store's is newer, and stays", "--force"],
        ["error: /srv/a/kind: ", "differs in type", "compare the two, move the store's away, and run again"],
        ["error: /srv/a: ", "differs in owner", "stays"],
    ] {
        output.clone().says_in_one_line(&words);
    }
    let after = store.snapshot();
    assert_eq!(before.losses(&after), [] as [&str; 0]);
    assert_eq!(after.news(&before).len(), 1, "{output:?}");
    are_same(old("srv/a/more"), new("srv/a/more"), &output);
    // The same size and time, and other content: only reading shows the difference.
    for path in [old("srv/a/same"), new("srv/a/same")] {
        fs::write(&path, format!("{:010.10}", path.display())).unwrap();
        run(&["touch".as_ref(), "-d@1000000000".as_ref(), path.as_os_str()]).ok();
    }
    fs::remove_file(old("srv/a/kind")).unwrap();
    assert!(!migrate(&["--no-verify"]).expect(1).stderr.contains("/srv/a/same"));
    migrate(&[]).expect(1).says_in_one_line(&["/srv/a/same: ", "differs in content", "--force"]);
}

fn forced_files_are_replaced() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 16);
    for path in ["srv/a/one", "srv/a/sub/two", "srv/a/sub/same", "srv/b/three"] {
        write(old(path), path);
    }
    manifest(json!([{ "directory": "/srv/a" }, { "directory": "/srv/b" }]));
    run(&["cp", "-a", "/tmp/old/srv", NEW]).ok();
    for path in ["srv/a/one", "srv/a/sub/two", "srv/b/three"] {
        write(new(path), "what the store has");
    }
    write(new("srv/a/sub/extra"), "extra");
    // The same by its size and time.
    write(new("srv/a/sub/same"), "SRV/a/sub/same");
    run(&["touch", "-r", "/tmp/old/srv/a/sub/same", "/tmp/new/srv/a/sub/same"]).ok();
    chown(old("srv/a/sub"), Some(5), Some(6)).unwrap();
    let before = store.snapshot();
    migrate(&["--force", "/srv/a/sub", "--dry-run"]).expect(1);
    assert_eq!(store.snapshot(), before);
    let output = migrate(&["--force", "/srv/a/sub"]).expect(1);
    let read = |path| fs::read_to_string(new(path)).unwrap();
    assert_eq!(
        (read("srv/a/sub/two").as_str(), read("srv/a/sub/same").as_str()),
        ("srv/a/sub/two", "srv/a/sub/same")
    );
    assert_eq!(
        (read("srv/a/one").as_str(), read("srv/b/three").as_str()),
        ("what the store has", "what the store has")
    );
    assert_eq!(read("srv/a/sub/extra"), "extra");
    assert_eq!(stat(new("srv/a/sub")), (0o040_755, 5, 6), "{output:?}");
    migrate(&["--force", "/srv"]).ok();
    migrate(&[]).ok();
}

fn files_that_cannot_be_copied() {
    let (_source, store) = disks(Fs::Ext4, Fs::Ext4, 16);
    write(old("srv/real/file"), "file");
    symlink("/srv/real", old("srv/link")).unwrap();
    symlink("/srv/real/file", old("etc-file")).unwrap();
    write(old("srv/file"), "file");
    symlink("/etc", new("home")).unwrap();
    write(old("home/a/x"), "x");
    for name in ["linked", "later"] {
        symlink(Path::new("/persist/srv").join(name), old("srv").join(name)).unwrap();
    }
    write(new("srv/linked"), "file");
    manifest(json!([
        { "directory": "/srv/link" }, { "directory": "/srv/link2/deep" }, { "file": "/etc-file" },
        { "directory": "/srv/file" }, { "directory": "/home/a" }, { "directory": "/srv/real" }, { "file": "/srv/linked" },
        { "file": "/srv/later" },
    ]));
    let output = migrate(&[]).expect(1);
    for words in [
        ["/srv/link: ", "symbolic link to /srv/real"],
        ["/etc-file: ", "symbolic link"],
        ["/srv/file: ", "a regular file, not a directory"],
        ["/home/a: ", "/home is a symbolic link"],
    ] {
        output.clone().says_in_one_line(&words);
    }
    assert!(output.stdout.contains("on the store  /srv/linked\n"), "{output:?}");
    assert!(!output.stdout.contains("on the store  /srv/later"), "{output:?}");
    let found = store.snapshot();
    assert!(found.line("srv/real/file").is_some() && found.line("srv/link").is_none());
    assert!(!Path::new("/etc/a").exists());
}

fn from_the_running_system() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 64));
    let named = json!({ "directory": "/srv/named" });
    let all = |more: Value| json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": more });
    machine.manifest(&all(json!([named])));
    machine.build().ok();
    machine.switch_root();
    write(machine.at("/srv/named/file"), "kept");
    write(machine.at("/srv/new/file"), "new");
    machine.manifest(&all(json!([named, { "directory": "/srv/new" }])));
    let output = machine.impctl("migrate", &["--from", "/"]).ok();
    assert!(
        output.stdout.contains("on the store  /srv/named\n")
            && output.stdout.contains("copied        /srv/new\n"),
        "{output:?}"
    );
    are_same(machine.at("/srv/new"), machine.at("/persist/srv/new"), &output);
}

fn trees_that_do_not_fit_are_refused() {
    let source = Disk::new(Fs::Ext4, 128);
    let store = Disk::formatted(Fs::Ext4, 16, "-N 256");
    source.mount(OLD);
    store.mount(NEW);
    write(old("srv/a/small"), "small");
    fs::write(old("srv/a/large"), vec![1; 40 << 20]).unwrap();
    manifest(json!([{ "directory": "/srv/a" }]));
    let before = store.snapshot();
    let refused = |words: &[&str]| {
        for dry in [&["--dry-run"][..], &[]] {
            migrate(dry)
                .expect(1)
                .says_in_one_line(&[&["error: store /persist: not everything fits"][..], words].concat());
            assert_eq!(store.snapshot(), before);
        }
    };
    refused(&["41M are needed", "are free", "nothing was written"]);
    fs::remove_file(old("srv/a/large")).unwrap();
    for number in 0..400 {
        File::create(old("srv/a").join(number.to_string())).unwrap();
    }
    refused(&["402 inodes are needed"]);
}

fn without_a_store() {
    fs::create_dir_all(NEW).unwrap();
    write(old("srv/a/file"), "file");
    manifest(json!([{ "directory": "/srv/a" }]));
    migrate(&[]).expect(2).says(&["store /persist: /tmp/new is in memory"]);
    run(&line(&[])).expect(2).says(&["store /persist: cannot open /persist", "--store"]);
    compile(
        json!({ "version": 1, "root": { "convert": "/persist" }, "stores": [{ "path": "/persist" }], "entries": [] }),
    );
    run(&line(&[])).expect(2).says(&["store /persist: ", "nothing needs to be copied"]);
    run(&[env!("CARGO_BIN_EXE_impctl"), "migrate", "--from", OLD, "--manifest", "/none"]).expect(2);
    run(&[env!("CARGO_BIN_EXE_impctl"), "migrate"]).expect(2).says(&["--from"]);
}

fn a_tree_deeper_than_a_path() {
    let disk = Disk::new(Fs::Btrfs, 128);
    disk.mount("/tmp/disk");
    for (folder, place) in [("old", OLD), ("new", NEW)] {
        fs::create_dir_all(place).unwrap();
        fs::create_dir(Path::new("/tmp/disk").join(folder)).unwrap();
        namespace::bind(Path::new("/tmp/disk").join(folder), place);
    }
    trees::make_deep(&old("srv/a"));
    manifest(json!([{ "directory": "/srv/a" }]));
    migrate(&[]).ok();
    assert_eq!(trees::bottom(&new("srv/a")), "deep");
}
