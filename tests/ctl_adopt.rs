//! `impctl adopt`: files only on the root are copied to the store, with all attributes, and mounted from there.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::live::{manifest, report};
use crate::support::look::{mounts_below, stat};
use crate::support::trees::{self, Look};
use crate::support::{Disk, Fs, Machine, Root, Snapshot, json_of, mounts, namespace, run};

tests![
    everything_is_kept: Disk,
    a_file_is_adopted: Disk,
    a_tree_deeper_than_a_path: Disk,
    later_runs_leave_it_or_know_it: Disk,
    removed_entries_in_use: Disk,
    refused_paths: Disk,
    open_files_are_refused: Disk,
    databases_that_were_not_closed: Disk,
    another_file_on_the_store: Disk,
    links_are_not_followed: Disk,
    strangers_in_the_way_of_the_copy: Disk,
    changed_files_are_copied_again: Disk,
    files_that_never_rest_are_left_alone: Disk,
    a_full_store: Disk,
    a_store_that_goes_away: Disk,
    several_stores: Disk,
];

/// A running machine, with a store on this file system.
pub fn started_on(fs: Fs, mib: u64, entries: Value) -> Machine {
    let machine = Machine::new(Root::Nothing, Disk::new(fs, mib));
    machine.manifest(&manifest(entries));
    machine.build().ok();
    machine.switch_root();
    machine
}

pub fn started() -> Machine {
    started_on(Fs::Ext4, 64, json!([{ "directory": "/var/lib/named" }]))
}

pub fn adopted() -> Value {
    serde_json::from_slice(&fs::read("/run/imp-mount/adopted.json").unwrap()).unwrap()
}

/// No part of an unfinished copy is left.
pub fn is_tidy(machine: &Machine) {
    let left = machine.disk().snapshot();
    let is_ours = |line: &String| line.contains(".imp-mount") || line.contains("trusted.imp-mount");
    let left: Vec<_> = left.news(&Snapshot::default()).into_iter().filter(is_ours).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn everything_is_kept() {
    for fs in Fs::REAL {
        let machine = started_on(fs, 128, json!([]));
        let place = machine.at("/var/lib/new");
        trees::make(&place);
        chown(machine.at("/var/lib"), Some(3), Some(4)).unwrap();
        let (before, blocks) = (Look::of(&place), fs::metadata(place.join("sparse")).unwrap().blocks());
        let output = machine.impctl("adopt", &["/var/lib/new"]).ok();
        let mount = machine.mount_at("/var/lib/new").unwrap();
        assert_eq!(mount.root, Path::new("/var/lib/new"), "{output:?}");
        assert!(mount.has("nosuid") && mount.has("nodev"), "{mount:?}");
        assert_eq!(mount.source, machine.disk().device.display().to_string());
        assert_eq!(before.differences(&Look::of(&place)), [] as [&str; 0], "{fs:?}: {output:?}");
        // A hole is none of the 30 MiB.
        let copied = fs::metadata(place.join("sparse")).unwrap().blocks();
        assert!(copied <= blocks + 256, "{fs:?}: {copied} blocks of {blocks}");
        assert_eq!(stat(machine.at("/persist/var/lib")), (0o040_755, 3, 4));
        assert!(
            output
                .stdout
                .contains(r#"{"directory":"/var/lib/new","group":"194","mode":"1750","user":"193"}"#),
            "{output:?}"
        );
        is_tidy(&machine);
        assert_eq!(mounts_below(&machine.at("/persist")).len(), 1);
        machine.power_off();
        fs::remove_dir_all("/tmp/machine").unwrap();
    }
}

fn a_file_is_adopted() {
    let machine = started();
    let place = machine.at("/etc/adjtime");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, "time").unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).unwrap();
    let none = machine.run_inside(&["/run/machine/impctl", "adopt", "/etc/adjtime"]).expect(2);
    none.says(&["/etc/imp-mount/manifest: there is no manifest; name one with --manifest FILE"]);
    let output = machine.impctl("adopt", &["--json", "/etc/adjtime", "/etc/none"]).expect(1);
    let said = json_of(&output, "adopt");
    let line =
        "environment.persistence.\"/persist\".files = [ { file = \"/etc/adjtime\"; mode = \"0600\"; } ];";
    assert_eq!(said["adopted"][0]["nix"], line);
    assert_eq!(said["adopted"][0]["entry"], json!({ "file": "/etc/adjtime", "mode": "0600" }));
    assert!(said["problems"][0].as_str().unwrap().starts_with("/etc/none: "), "{said}");
    output.says(&["error: /etc/none: "]);
    assert_eq!(fs::read_to_string(&place).unwrap(), "time");
    fs::write(&place, "later").unwrap();
    assert_eq!(machine.disk().snapshot().line("etc/adjtime").unwrap().split(' ').nth(2), Some("5"));
    // Forgotten by the configuration, and on the store alone.
    fs::create_dir_all(machine.at("/persist/srv/forgotten")).unwrap();
    let refused = machine.impctl("adopt", &["/srv/forgotten"]).expect(1);
    refused.says(&["/srv/forgotten: the root does not have it, and the store /persist does; add its line"]);
    // A manifest accepts the printed line.
    machine.manifest(&manifest(json!([{ "directory": "/var/lib/named" }, said["adopted"][0]["entry"]])));
    machine.run_live(&["--check"]).ok();
    machine.reboot().ok();
    assert_eq!(fs::read_to_string(&place).unwrap(), "later");
}

fn a_tree_deeper_than_a_path() {
    let machine = started();
    let place = machine.at("/srv/deep");
    trees::make_deep(&place);
    machine.impctl("adopt", &["/srv/deep"]).ok();
    assert!(machine.mount_at("/srv/deep").is_some());
    assert_eq!(trees::bottom(&place), "deep");
    // With far fewer descriptors than levels.
    let place = machine.at("/srv/deeper");
    trees::make_deep(&place);
    let program = "/run/machine/impctl adopt --manifest /run/machine/manifest /srv/deeper";
    machine.run_inside(&["sh", "-c", &format!("ulimit -n 64; exec {program}")]).ok();
    assert!(machine.mount_at("/srv/deeper").is_some());
    assert_eq!(trees::bottom(&place), "deep");
}

fn later_runs_leave_it_or_know_it() {
    let machine = started();
    let place = machine.at("/srv/new");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("file"), "first").unwrap();
    let device = machine.disk().device.display().to_string();
    machine.impctl("adopt", &["/srv/new/"]).ok();
    let entry = json!({ "target": "/srv/new", "source": "/persist/srv/new", "kind": "directory" });
    assert_eq!(adopted(), json!({ "version": 1, "entries": [entry] }));
    let utab = fs::read_to_string("/run/mount/utab").unwrap();
    assert!(
        utab.contains(&format!("SRC={device} TARGET=/srv/new ROOT=/srv/new OPTS=x-initrd.mount\n")),
        "{utab}"
    );
    fs::write(place.join("file"), "second").unwrap();

    // A second adoption, and runs with the old manifest, change nothing.
    let before = mounts();
    machine.impctl("adopt", &["/srv/new"]).ok();
    machine.run_live(&[]).ok();
    machine.run_live(&["--check"]).ok();
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "second");

    // A manifest with the path finds the mount in place.
    machine.manifest(&manifest(
        json!([{ "directory": "/var/lib/named" }, { "directory": "/srv/new", "options": ["noexec"] }]),
    ));
    machine.run_live(&[]).ok();
    let (mount, old) =
        (machine.mount_at("/srv/new").unwrap(), before.iter().find(|one| one.target == place).unwrap());
    assert_eq!(mount.id, old.id);
    assert!(mount.has("noexec"));
    assert_eq!(report()["entries"][0]["state"], "mounted");
    machine.run_live(&["--check"]).ok();
    machine.impctl("adopt", &["/srv/new"]).expect(1).says(&["persists already, by the entry /srv/new"]);
    machine.reboot().ok();
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "second");
}

fn removed_entries_in_use() {
    let machine = started();
    let writer = inside(&machine, "exec 3>>/var/lib/named/log; echo ready; exec sleep 100");
    machine.manifest(&manifest(json!([])));
    machine.run_live(&[]).ok().says(&["/var/lib/named: it is no longer named, but in use"]);
    let output = machine.impctl("adopt", &["/var/lib/named"]).ok();
    assert!(output.stdout.contains("/var/lib/named: in place already"), "{output:?}");
    assert_eq!(
        (report()["entries"].clone(), adopted()["entries"][0]["target"].as_str()),
        (json!([]), Some("/var/lib/named"))
    );
    end(writer);
    // The path is unused now, and stays mounted: the adoption is the latest request.
    let before = mounts();
    machine.run_live(&[]).ok();
    assert_eq!(mounts(), before);
    fs::write(machine.at("/var/lib/named/log"), "kept").unwrap();
    assert_eq!(fs::read_to_string(machine.at("/persist/var/lib/named/log")).unwrap(), "kept");
}

fn refused_paths() {
    let machine = started();
    fs::create_dir_all(machine.at("/srv/disk/in")).unwrap();
    fs::create_dir_all(machine.at("/mnt/volatile/in")).unwrap();
    namespace::tmpfs(machine.at("/mnt/volatile"), "mode=0755");
    fs::create_dir_all(machine.at("/mnt/volatile/in")).unwrap();
    namespace::tmpfs(machine.at("/srv/disk/in"), "mode=0755");
    fs::create_dir_all(machine.at("/etc")).unwrap();
    symlink("/nix/store/x", machine.at("/etc/link")).unwrap();
    trees::socket(&machine.at("/srv/socket"));
    let before = (machine.disk().snapshot(), mounts());
    for (path, words) in [
        ("/", "cannot be an entry"),
        ("/var/lib/named", "by the entry /var/lib/named"),
        ("/var/lib/named/below", "by the entry /var/lib/named"),
        ("/var/lib", "mounted below it: /var/lib/named"),
        ("/nix", "running system"),
        ("/nix/store/x", "belongs to Nix alone"),
        ("/run/x", "made anew at every boot"),
        ("/dev/x", "kernel"),
        ("/persist/x", "/persist"),
        ("/srv", "mounted below it: /srv/disk/in"),
        ("/srv/disk/in", "another file system"),
        ("/mnt/volatile/in", "/mnt/volatile is another file system"),
        ("/etc/link", "symbolic link"),
        ("/srv/socket", "a socket"),
        ("/srv/none", "No such file"),
        ("/etc/../srv/none", ".."),
    ] {
        machine.impctl("adopt", &[path]).expect(1).says_in_one_line(&["error: ", words]);
    }
    machine.impctl("adopt", &["--store", "/data", "/srv/x"]).expect(2).says(&["no store of the manifest"]);
    machine.impctl("adopt", &[]).expect(2);
    assert_eq!((machine.disk().snapshot(), mounts()), before);
}

/// A process inside the machine, which ends with the test.
pub fn inside(machine: &Machine, script: &str) -> Child {
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "chroot"])
        .arg(machine.at(""))
        .args(["sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    child
}

pub fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn open_files_are_refused() {
    let machine = started();
    let place = machine.at("/srv/app");
    fs::create_dir_all(place.join("sub")).unwrap();
    fs::write(place.join("app.db"), "SQLite format 3").unwrap();
    fs::write(place.join("app.db-wal"), "").unwrap();
    let refused = |words: &[&str]| {
        machine.impctl("adopt", &["/srv/app"]).expect(1).says_in_one_line(words);
        assert!(machine.mount_at("/srv/app").is_none());
        is_tidy(&machine);
    };
    let writer = inside(&machine, "exec 3>>/srv/app/app.db; echo ready; exec sleep 100");
    let pid = writer.id().to_string();
    refused(&["error: /srv/app: an SQLite database (app.db) is open: sleep", &pid, "writes to", "--open"]);
    end(writer);
    let worker = inside(&machine, "cd /srv/app/sub; echo ready; exec sleep 100");
    refused(&["is open: sleep", "works in /srv/app/sub", "kill"]);
    end(worker);
    // Whoever only reads does no harm.
    let reader = inside(&machine, "exec 3</srv/app/app.db; echo ready; exec sleep 100");
    let socket = UnixListener::bind("/tmp/machine/sysroot/srv/app/socket").unwrap();
    drop(socket);

    let writer = inside(&machine, "exec 3>>/srv/app/app.db; echo ready; exec sleep 100");
    let output = machine.impctl("adopt", &["--open", "/srv/app"]).expect(1);
    output.says(&[
        "warning: ",
        "start it again",
        "error: /srv/app: sleep",
        "writes to /srv/app/app.db, which is covered now",
        "reads /srv/app/app.db, which is covered now",
    ]);
    assert!(machine.mount_at("/srv/app").is_some());
    end(writer);
    end(reader);
}

fn databases_that_were_not_closed() {
    let machine = started();
    for (folder, files, words) in [
        ("pg", &["PG_VERSION", "postmaster.pid", "base/1/PG_VERSION"][..], "a PostgreSQL database"),
        ("my", &["ibdata1", "host.pid"], "a MariaDB or MySQL database"),
        ("lite", &["data/a.sqlite", "data/a.sqlite-wal"], "an SQLite database"),
    ] {
        let path = format!("/srv/{folder}");
        for file in files {
            let file = machine.at(&path).join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        machine.impctl("adopt", &[&path]).expect(1).says_in_one_line(&[
            words,
            "was not closed",
            &path,
            "--open",
        ]);
        fs::remove_file(machine.at(&path).join(files[1])).unwrap();
        machine.impctl("adopt", &[&path]).ok();
        assert!(machine.mount_at(&path).is_some());
    }
}

fn another_file_on_the_store() {
    let machine = started();
    for path in ["/srv/a", "/persist/srv/a"] {
        fs::create_dir_all(machine.at(path)).unwrap();
        fs::write(machine.at(path).join("file"), path).unwrap();
    }
    let before = machine.disk().snapshot();
    machine
        .impctl("adopt", &["/srv/a"])
        .expect(1)
        .says(&["the store holds something else at its place", "file (size)"]);
    assert_eq!(machine.disk().snapshot(), before);
    assert_eq!(fs::read_to_string(machine.at("/srv/a/file")).unwrap(), "/srv/a");
    assert!(machine.mount_at("/srv/a").is_none());
    // The same is as good as copied.
    fs::remove_dir_all(machine.at("/persist/srv/a")).unwrap();
    run(&[
        "cp".as_ref(),
        "-a".as_ref(),
        machine.at("/srv/a").as_os_str(),
        machine.at("/persist/srv/").as_os_str(),
    ])
    .ok();
    machine.impctl("adopt", &["/srv/a"]).ok();
    assert!(machine.mount_at("/srv/a").is_some());
}

fn links_are_not_followed() {
    let machine = started();
    fs::create_dir_all(machine.at("/home/a/data")).unwrap();
    fs::create_dir_all(machine.at("/persist/secret")).unwrap();
    symlink("/persist/secret", machine.at("/persist/home")).unwrap();
    symlink("/home/a", machine.at("/srv")).unwrap();
    let before = (machine.disk().snapshot(), mounts());
    machine.impctl("adopt", &["/home/a/data"]).expect(1).says(&["/persist/home is a symbolic link"]);
    machine.impctl("adopt", &["/srv/data"]).expect(1).says(&["/srv is a symbolic link"]);
    assert_eq!((machine.disk().snapshot(), mounts()), before);
}

fn strangers_in_the_way_of_the_copy() {
    let machine = started();
    fs::create_dir_all(machine.at("/home/a/data")).unwrap();
    fs::create_dir_all(machine.at("/persist/home/a")).unwrap();
    fs::write(machine.at("/persist/victim"), "victim").unwrap();
    let private = machine.at("/persist/.imp-mount");
    let refused = || {
        let before = machine.disk().snapshot();
        machine
            .impctl("adopt", &["/home/a/data"])
            .expect(1)
            .says(&["store /persist", ".imp-mount on the store is not a directory that imp-mount created"]);
        assert_eq!(machine.disk().snapshot(), before);
        assert!(machine.mount_at("/home/a/data").is_none());
    };
    fs::create_dir(&private).unwrap();
    fs::hard_link(machine.at("/persist/victim"), private.join("staging")).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    refused();
    chown(&private, Some(1000), Some(100)).unwrap();
    refused();
    fs::remove_dir_all(&private).unwrap();
    symlink("/persist/victim", &private).unwrap();
    refused();
    fs::remove_file(&private).unwrap();
    machine.impctl("adopt", &["/home/a/data"]).ok();
    is_tidy(&machine);
}

fn changed_files_are_copied_again() {
    let machine = started();
    let place = machine.at("/srv/busy");
    fs::create_dir_all(&place).unwrap();
    for number in 0..400 {
        fs::write(place.join(format!("{number:03}")), vec![b'x'; 20_000]).unwrap();
    }
    // Replaces the file by name for a while, as many programs do, so that no process has the file open.
    let script = "echo ready; i=0; while [ $i -lt 60 ]; do echo $i > /srv/busy/390; mv /srv/busy/390 /srv/busy/391; rm -f /srv/busy/39$((i % 7 + 2)); i=$((i + 1)); done; echo end > /srv/busy/400";
    let mut writer = inside(&machine, script);
    let output = machine.impctl("adopt", &["--open", "/srv/busy"]);
    writer.wait().unwrap();
    // The mount has all changes, at any moment. Or the command refused, or named the files below the mount.
    if output.code == Some(0) {
        let read = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
        assert_eq!((read("391").as_str(), read("400").as_str()), ("59\n", "end\n"), "{output:?}");
        for number in (0..400).filter(|number| *number != 391) {
            let is_there = place.join(format!("{number:03}")).exists();
            assert_eq!(is_there, number < 390 || number == 399, "{number}: {output:?}");
        }
    } else {
        output.expect(1).says(&["/srv/busy"]);
    }
    is_tidy(&machine);
}

fn files_that_never_rest_are_left_alone() {
    let machine = started();
    let place = machine.at("/srv/busy");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("log"), vec![b'x'; 30 << 20]).unwrap();
    let writer = inside(&machine, "exec 3>>/srv/busy/log; echo ready; while :; do echo x >&3; done");
    let before = mounts();
    let output = machine.impctl("adopt", &["--open", "/srv/busy"]).expect(1);
    output
        .says(&["/srv/busy: files keep changing during the copy: log", "stop the programs that write to it"]);
    end(writer);
    assert_eq!(mounts(), before);
    is_tidy(&machine);
    assert!(!machine.at("/persist/srv/busy").exists());
    machine.impctl("adopt", &["/srv/busy"]).ok();
}

fn a_full_store() {
    let machine = started_on(Fs::Ext4, 32, json!([]));
    let place = machine.at("/srv/big");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("file"), vec![b'x'; 40 << 20]).unwrap();
    let before = (machine.disk().snapshot(), mounts());
    machine.impctl("adopt", &["/srv/big"]).expect(1).says(&[
        "store /persist: it takes 4",
        "are free",
        "--store",
    ]);
    assert_eq!((machine.disk().snapshot(), mounts()), before);
    // Inodes.
    fs::write(place.join("file"), "x").unwrap();
    let many = machine.at("/srv/many");
    fs::create_dir_all(&many).unwrap();
    for number in 0..20_000 {
        File::create(many.join(number.to_string())).unwrap();
    }
    machine.impctl("adopt", &["/srv/many"]).expect(1).says(&["it takes 20,001 inodes"]);
    assert_eq!((machine.disk().snapshot(), mounts()), before);
    // Full only during the write: the file fits by its size, not by its blocks.
    machine.disk().fill();
    fs::write(machine.at("/srv/big/file"), "x").unwrap();
    let output = machine.impctl("adopt", &["/srv/big"]).expect(1);
    assert!(output.stderr.contains("No space left") || output.stderr.contains("are free"), "{output:?}");
    is_tidy(&machine);
    machine.disk().unfill();
    machine.impctl("adopt", &["/srv/big"]).ok();
}

fn a_store_that_goes_away() {
    let machine = started();
    let place = machine.at("/srv/app");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("file"), "kept").unwrap();
    machine.disk().shut_down();
    let before = mounts();
    machine.impctl("adopt", &["/srv/app"]).expect(1).says(&["/srv/app: "]);
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "kept");
}

fn several_stores() {
    let (one, two) = (Disk::new(Fs::Ext4, 16), Disk::new(Fs::Ext4, 16));
    let machine = Machine::with_stores(Root::Nothing, vec![("/persist", one), ("/data", two)]);
    machine.manifest(&json!({ "version": 1, "root": {}, "stores": [{ "path": "/persist" }, { "path": "/data" }], "entries": [] }));
    machine.build().ok();
    machine.switch_root();
    fs::create_dir_all(machine.at("/srv/a")).unwrap();
    machine.impctl("adopt", &["/srv/a"]).expect(2).says(&["several stores: /data, /persist", "--store"]);
    let output = machine.impctl("adopt", &["--store", "/data", "/srv/a"]).ok();
    assert!(output.stdout.contains("{\"directory\":\"/srv/a\",\"store\":\"/data\"}"), "{output:?}");
    assert!(machine.at("/data/srv/a").exists());
}
