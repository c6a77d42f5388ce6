//! Unreliable stores and roots: in memory, open to others, or mounted with options against the entries.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::check::check;
use crate::live::report;
use crate::support::command::sh_on;
use crate::support::disk::detach;
use crate::support::namespace::{self, tmpfs};
use crate::support::{Disk as Image, Fs, Machine, Output, Root, run, scratch};

tests![
    an_overlay_over_a_tmpfs: Disk,
    an_overlay_over_a_disk: Disk,
    an_overlay_whose_upper_directory_cannot_be_seen: Disk,
    a_loop_device: Disk,
    a_loop_device_on_a_loop_device: Disk,
    a_file_that_cannot_be_seen: Disk,
    a_file_in_memory_that_cannot_be_seen: Disk,
    a_file_that_was_deleted: Disk,
    btrfs_of_several_devices: Disk,
    zram: Disk,
    a_private_directory_that_cannot_be_used: Disk,
    a_directory_that_others_may_write_to: Disk,
    a_directory_above_the_store: Disk,
    a_root_that_others_may_write_to: Disk,
    options_that_entries_ask_not_to_have: Disk,
    adopting_and_migrating: Disk,
];

/// A machine with a store mounted by the test.
fn machine(entries: Value) -> Machine {
    let machine = Machine::with_stores(Root::Nothing, Vec::new());
    fs::create_dir_all(machine.at("/persist")).unwrap();
    machine.manifest(
        &json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }], "entries": entries }),
    );
    machine
}

fn one_entry() -> Machine {
    machine(json!([{ "directory": "/srv" }]))
}

fn warnings(output: &Output) -> Vec<&str> {
    output.stderr.lines().filter(|line| line.contains("warning: ")).collect()
}

/// The boot continues with one warning about the store; the report, --check and the status have the same text.
#[track_caller]
fn is_bad(machine: &Machine, kind: &str, words: &[&str]) {
    let output = machine.build().ok();
    let [warning] = warnings(&output)[..] else { panic!("not one warning: {output:?}") };
    for word in [&["store /persist: "], words].concat() {
        assert!(warning.contains(word), "no {word:?} in {warning}");
    }
    assert_eq!(report()["stores"][0]["findings"][0]["kind"], kind, "{:#}", report());
    // Said once, and not by every run.
    assert_eq!(warnings(&machine.build().ok()), [""; 0]);
    is_found(machine, kind, words);
    let found = machine.run(&["--check"]).expect(1).stdout;
    let line = found.lines().find(|line| line.starts_with("store ") && line.contains("PROBLEM: "));
    let line = line.unwrap_or_else(|| panic!("no problem of the store in {found}"));
    assert!(words.iter().all(|word| line.contains(word)) && found.contains("1 problem\n"), "{found}");
}

/// Findings of --check and of the status.
#[track_caller]
fn is_found(machine: &Machine, kind: &str, words: &[&str]) {
    let found = check(machine, 1);
    let findings = found["stores"][0]["findings"].as_array().unwrap();
    assert_eq!((findings.len(), &findings[0]["kind"]), (1, &json!(kind)), "{found:#}");
    let said = format!("{} {}", findings[0]["what"], findings[0]["remedy"]);
    assert!(words.iter().all(|word| said.contains(word)), "no {words:?} in {said}");
}

/// The boot has nothing to say, and nor has --check.
#[track_caller]
fn is_well(machine: &Machine) {
    let output = machine.build().ok();
    assert_eq!(warnings(&output), [""; 0], "{output:?}");
    assert_eq!(check(machine, 0)["stores"][0].get("findings"), None);
}

/// Mounts an overlay as the store, with its upper directory here.
fn overlay(machine: &Machine, upper: &Path) {
    for folder in ["lower", "upper,=", "work"] {
        fs::create_dir_all(upper.join(folder)).unwrap();
    }
    let at = upper.display();
    let options = format!(r"lowerdir={at}/lower,upperdir={at}/upper\,=,workdir={at}/work");
    let (place, none) = (machine.at("/persist"), MsFlags::empty());
    mount(Some("overlay"), &place, Some("overlay"), none, Some(options.as_str())).unwrap();
}

fn an_overlay_over_a_tmpfs() {
    let machine = one_entry();
    let layer = Path::new("/tmp/layer");
    fs::create_dir(layer).unwrap();
    tmpfs(layer, "size=1M");
    overlay(&machine, layer);
    is_bad(
        &machine,
        "volatile",
        &["overlay", "upper directory /tmp/layer/upper", "is on a tmpfs", "to a disk"],
    );
    machine.switch_root();
    let status = machine.impctl("status", &[]).expect(1).stdout;
    assert!(status.contains("is on a tmpfs"), "{status}");

    // The system does not see the initrd's layer. The warning is recorded, so the status knows it.
    detach(layer);
    is_found(&machine, "volatile", &["is on a tmpfs"]);
    let status = machine.impctl("status", &["--json"]).expect(1).stdout;
    assert!(status.contains("is on a tmpfs"), "{status}");
    assert_eq!(warnings(&machine.run_live(&[]).ok()), [""; 0]);
    is_found(&machine, "volatile", &["is on a tmpfs"]);
}

fn an_overlay_over_a_disk() {
    let machine = one_entry();
    let (disk, layer) = (Image::new(Fs::Ext4, 8), Path::new("/tmp/layer"));
    disk.mount(layer);
    overlay(&machine, layer);
    is_well(&machine);
    detach(layer);
    check(&machine, 0);
    is_well(&machine);
}

fn an_overlay_whose_upper_directory_cannot_be_seen() {
    let machine = one_entry();
    let (disk, layer) = (Image::new(Fs::Ext4, 8), Path::new("/tmp/layer"));
    disk.mount(layer);
    overlay(&machine, layer);
    detach(layer);
    is_bad(&machine, "volatile", &["may be in memory", "= cannot be seen from here"]);
}

fn a_loop_device() {
    for fs in Fs::REAL {
        let machine = one_entry();
        let disk = Image::image(Path::new("/tmp/a disk"), fs, 8, "");
        disk.mount(machine.at("/persist"));
        let name = disk.device.file_name().unwrap().to_str().unwrap().to_owned();
        is_bad(&machine, "volatile", &[&name, "whose file /tmp/a disk is on a tmpfs"]);
        machine.power_off();
        disk.umount();
        fs::remove_file("/tmp/a disk").unwrap();
    }
}

/// The path of an image on a disk mounted for it.
fn image_on(disk: &Image) -> PathBuf {
    let at = Path::new("/tmp/outer");
    disk.mount(at);
    at.join("inner")
}

fn a_loop_device_on_a_loop_device() {
    for (place, is_lost) in [(scratch().join("outer"), false), ("/tmp/image".into(), true)] {
        let machine = one_entry();
        let outer = Image::image(&place, Fs::Ext4, 32, "");
        let inner = Image::image(&image_on(&outer), Fs::Ext4, 8, "");
        inner.mount(machine.at("/persist"));
        if is_lost {
            is_bad(
                &machine,
                "volatile",
                &["whose file /tmp/outer/inner is on loop", "whose file /tmp/image is on a tmpfs"],
            );
        } else {
            is_well(&machine);
        }
        machine.power_off();
        inner.umount();
        drop(inner);
        outer.umount();
    }
}

/// The device tells where its file is.
fn a_file_that_cannot_be_seen() {
    let machine = one_entry();
    let outer = Image::new(Fs::Ext4, 32);
    let image = image_on(&outer);
    let disk = Image::image(&image, Fs::Ext4, 8, "");
    disk.mount(machine.at("/persist"));
    let folder = image.parent().unwrap();
    tmpfs(folder, "size=32M");
    // Another file has its path.
    fs::write(&image, "").unwrap();
    is_well(&machine);
    let notes = check(&machine, 0)["notes"].to_string();
    assert!(!notes.contains("cannot be seen"), "{notes}");

    // A container has no device to ask. Its disks most often are disks.
    fs::remove_file(&image).unwrap();
    namespace::bind("/dev/null", &disk.device);
    assert_eq!(warnings(&machine.build().ok()), [""; 0]);
    fs::remove_file("/run/imp-mount/report.json").unwrap();
    let notes = check(&machine, 0)["notes"].to_string();
    assert!(notes.contains("whose file /tmp/outer/inner cannot be seen from here"), "{notes}");
    detach(&disk.device);
    machine.power_off();
    disk.umount();
    drop(disk);
    detach(folder);
}

/// As the initrd's own files after the root was switched.
fn a_file_in_memory_that_cannot_be_seen() {
    let machine = one_entry();
    let (disk, folder) = (Image::new(Fs::Ext4, 8), Path::new("/tmp/hidden"));
    fs::create_dir(folder).unwrap();
    tmpfs(folder, "size=32M");
    let inner = Image::image(&folder.join("image"), Fs::Ext4, 8, "");
    inner.mount(machine.at("/persist"));
    // A file on a disk has its path.
    disk.mount(folder);
    fs::write(folder.join("image"), "").unwrap();
    let words = ["may be in memory", "whose file /tmp/hidden/image cannot be seen from here"];
    is_bad(&machine, "volatile", &words);
    machine.power_off();
    detach(folder);
    inner.mount(machine.at("/persist"));
    is_bad(&machine, "volatile", &["may be in memory", "cannot be seen from here"]);
}

fn a_file_that_was_deleted() {
    for (image, words) in [
        (PathBuf::from("/tmp/image"), "whose file /tmp/image (deleted) is on a tmpfs"),
        (scratch().join("image"), "/image was deleted"),
    ] {
        let machine = one_entry();
        let disk = Image::image(&image, Fs::Ext4, 8, "");
        disk.mount(machine.at("/persist"));
        fs::remove_file(&image).unwrap();
        is_bad(&machine, "volatile", &[words, "outlives the next boot"]);
        machine.power_off();
        disk.umount();
    }
}

fn btrfs_of_several_devices() {
    let machine = one_entry();
    let first = Image::new(Fs::Btrfs, 0);
    let second = Image::image(Path::new("/tmp/second"), Fs::Ext4, 128, "");
    first.mount(machine.at("/persist"));
    is_well(&machine);
    machine.power_off();
    first.mount(machine.at("/persist"));
    sh_on("btrfs -q device add -f", &[&second.device, &machine.at("/persist")]);
    is_bad(&machine, "volatile", &["whose file /tmp/second is on a tmpfs"]);
}

/// A compressed disk in memory, which goes with this value.
struct Zram(String);

impl Drop for Zram {
    fn drop(&mut self) {
        detach(Path::new("/tmp/machine/sysroot"));
        let number = self.0.trim_start_matches("zram");
        for _ in 0..500 {
            if fs::write("/sys/class/zram-control/hot_remove", number).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("{}: left behind", self.0);
    }
}

fn zram() {
    let Ok(number) = fs::read_to_string("/sys/class/zram-control/hot_add") else {
        eprintln!("SKIPPED: this kernel has no zram (modprobe zram): a store on it is not tested");
        return;
    };
    let zram = Zram(format!("zram{}", number.trim()));
    fs::write(format!("/sys/block/{}/disksize", zram.0), "32M").unwrap();
    let device = format!("/dev/{}", zram.0);
    sh_on("mkfs.ext4 -q", &[Path::new(&device)]);
    let machine = one_entry();
    sh_on("mount", &[Path::new(&device), &machine.at("/persist")]);
    is_bad(&machine, "volatile", &[&zram.0, "which is memory"]);
}

fn a_private_directory_that_cannot_be_used() {
    let (machine, disk) = (one_entry(), Image::new(Fs::Ext4, 8));
    disk.mount(machine.at("/persist"));
    machine.build().ok();
    check(&machine, 0);
    let private = machine.at("/persist/.imp-mount");
    fs::create_dir(&private).unwrap();
    for mode in [0o777, 0o755] {
        fs::set_permissions(&private, fs::Permissions::from_mode(mode)).unwrap();
        let found = check(&machine, 1);
        let problem = found["stores"][0]["problem"].as_str().unwrap();
        assert!(problem.contains(".imp-mount") && problem.contains("move it away"), "{found:#}");
    }
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    check(&machine, 0);
}

fn a_directory_that_others_may_write_to() {
    let machine = one_entry();
    let disk = Image::new(Fs::Ext4, 8);
    let set = |mode: u32, uid: u32, gid: u32| {
        disk.visit(|root| {
            sh_on("setfacl --remove-all", &[root]);
            chown(root, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(root, fs::Permissions::from_mode(mode)).unwrap();
        });
    };
    let boot = |judge: &dyn Fn(&Machine)| {
        machine.power_off();
        disk.mount(machine.at("/persist"));
        judge(&machine);
        machine.power_off();
        disk.umount();
    };
    for (mode, uid, gid) in
        [(0o777, 0, 0), (0o1777, 0, 0), (0o775, 0, 100), (0o755, 1000, 0), (0o700, 1000, 1000)]
    {
        set(mode, uid, gid);
        let owner = format!("(owner {uid}:{gid}, mode {mode:04o})");
        boot(&|machine| {
            is_bad(
                machine,
                "writable",
                &["others than root can write", &owner, "chown root:root ", " && chmod go-w "],
            );
        });
    }
    for (mode, uid, gid) in [(0o755, 0, 0), (0o750, 0, 100), (0o775, 0, 0), (0o700, 0, 0)] {
        set(mode, uid, gid);
        boot(&is_well);
    }
    // An ACL without write permission, and one with it.
    set(0o755, 0, 0);
    disk.visit(|root| drop(sh_on("setfacl -m u:1000:rx", &[root])));
    boot(&is_well);
    disk.visit(|root| drop(sh_on("setfacl -m u:1000:rwx", &[root])));
    boot(&|machine| is_bad(machine, "writable", &["(owner 0:0, mode 0775, with an ACL)"]));
    // The remedy helps.
    disk.mount(machine.at("/persist"));
    let found = check(&machine, 1);
    let remedy = found["stores"][0]["findings"][0]["remedy"].as_str().unwrap();
    run(&["sh", "-c", remedy.split('`').nth(1).unwrap()]).ok();
    machine.build().ok();
    check(&machine, 0);
}

fn a_directory_above_the_store() {
    let machine = Machine::with_stores(Root::Nothing, vec![("/nix", Image::new(Fs::Ext4, 8))]);
    let stores = json!([{ "path": "/nix/deep/persist" }]);
    machine.manifest(
        &json!({ "version": 1, "root": {}, "stores": stores, "entries": [{ "directory": "/srv" }] }),
    );
    is_well(&machine);
    for (folder, mode) in [("/nix", 0o777), ("/nix/deep", 0o777)] {
        fs::set_permissions(machine.at(folder), fs::Permissions::from_mode(mode)).unwrap();
        let found = check(&machine, 1);
        let what = found["stores"][0]["findings"][0]["what"].as_str().unwrap();
        assert!(what.contains(&format!("write to {} (", machine.at(folder).display())), "{what}");
        fs::set_permissions(machine.at(folder), fs::Permissions::from_mode(0o755)).unwrap();
        check(&machine, 0);
    }
    // Those on the root are not the store's.
    fs::create_dir(machine.at("/other")).unwrap();
    fs::set_permissions(machine.at("/other"), fs::Permissions::from_mode(0o777)).unwrap();
    check(&machine, 0);
}

fn a_root_that_others_may_write_to() {
    let machine = Machine::new(Root::Tmpfs, Image::new(Fs::Ext4, 8));
    machine.manifest(
        &json!({ "version": 1, "stores": [{ "path": "/persist" }], "entries": [{ "directory": "/srv" }] }),
    );
    is_well(&machine);
    fs::set_permissions(machine.at(""), fs::Permissions::from_mode(0o1777)).unwrap();
    let output = machine.build().ok();
    assert!(
        warnings(&output)[0].contains("root: others than root can write to / (owner 0:0, mode 1777)"),
        "{output:?}"
    );
    let found = check(&machine, 1);
    assert_eq!(
        (&found["problems"], &found["root"]["findings"][0]["kind"]),
        (&json!(1), &json!("writable")),
        "{found:#}"
    );
}

fn options_that_entries_ask_not_to_have() {
    let entries = json!([
        { "directory": "/etc/x" },
        { "directory": "/usr", "options": ["suid"] },
        { "directory": "/usr/local", "options": ["suid", "dev"] },
        { "directory": "/srv", "options": ["nodev"] },
    ]);
    let machine = machine(entries);
    let disk = Image::new(Fs::Ext4, 8);
    let boot = |options: &str, judge: &dyn Fn(&Machine)| {
        machine.power_off();
        disk.mount_with(machine.at("/persist"), options);
        judge(&machine);
        machine.power_off();
        disk.umount();
    };
    boot("rw", &is_well);
    boot("nosuid,nodev,noexec", &|machine| {
        let words = [
            "it is mounted nosuid, and so /usr, /usr/local cannot have suid; it is mounted nodev, and so /usr/local cannot have dev; \
             it is mounted noexec, and so /usr, /usr/local cannot have exec",
            "remount,suid,dev,exec ",
        ];
        is_bad(machine, "options", &words);
        // The remedy is enough.
        sh_on("mount -o remount,suid,dev,exec", &[&machine.at("/persist")]);
        assert_eq!(check(machine, 1)["stores"][0].get("findings"), None);
        machine.build().ok();
        check(machine, 0);
    });
    // Options of the store in the manifest are no finding.
    let stores = json!([{ "path": "/persist", "device": disk.device, "options": ["nodev,noexec"] }]);
    let entries = json!([{ "directory": "/usr" }]);
    machine.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
    machine.power_off();
    is_well(&machine);
}

fn adopting_and_migrating() {
    let machine = one_entry();
    let disk = Image::image(Path::new("/tmp/image"), Fs::Ext4, 8, "");
    disk.mount(machine.at("/persist"));
    machine.build().ok();
    machine.switch_root();
    // The same from inside as from here.
    fs::create_dir_all(machine.at("/tmp")).unwrap();
    namespace::bind("/tmp", machine.at("/tmp"));
    fs::create_dir(machine.at("/adopted")).unwrap();
    let output = machine.impctl("adopt", &["/adopted"]).ok();
    assert!(warnings(&output).len() == 1 && output.stderr.contains("is on a tmpfs"), "{output:?}");
    let output = machine.impctl("migrate", &["--from", "/", "--dry-run"]);
    assert!(output.stderr.contains("store /persist: it is on loop"), "{output:?}");
}
