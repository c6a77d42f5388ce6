//! Valid limits: the kernel's longest paths and names, through a boot and the life of the system.

use std::fs;

use serde_json::json;

use crate::live::{manifest, report, state};
use crate::support::{Disk, Fs, Machine, Root, imp_mount, run};

tests![
    the_longest_paths: Disk,
    the_deepest_path: Disk,
];

/// The path `/NAME…` of so many bytes, in components of at most 100.
fn long(name: char, bytes: usize) -> String {
    let mut path = format!("/{name}");
    while path.len() < bytes {
        let more = if bytes - path.len() == 102 { 100 } else { (bytes - path.len()).min(101) };
        path.push('/');
        path.extend(std::iter::repeat_n(name, more - 1));
    }
    path
}

/// Runs inside, where the sysroot does not make the paths longer.
fn is_mounted(machine: &Machine, path: &str) {
    machine.run_inside(&["mountpoint", "-q", path]).ok();
}

fn the_longest_paths() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    // With /persist in front 4095 bytes.
    let [directory, file, link, later, copy] = ['d', 'f', 'l', 'm', 'c'].map(|name| long(name, 4087));
    let folder = long('p', 3831);
    let matched = format!("{folder}/{}", "n".repeat(255));
    machine.manifest(&manifest(json!([
        { "directory": directory, "user": "late", "mode": "0750" },
        { "file": file, "missing": "create" },
        { "directory": link, "method": "symlink" },
        { "file": later },
        { "file": copy, "method": "copy", "missing": "create" },
        { "file": format!("{folder}/*") },
        { "directory": "/short" },
    ])));
    // The path of the match is longer than PATH_MAX.
    let inside = |script: &str| {
        run(&["sh", "-ec", &format!("cd {}; {script}", machine.at("/persist").display())]).ok()
    };
    let steps: Vec<_> = folder.split('/').skip(1).map(|name| format!("mkdir {name}; cd {name}")).collect();
    inside(&format!("{}; echo key > {}", steps.join("; "), "n".repeat(255)));
    machine.build().ok();
    let states = [
        (&directory, "mounted"),
        (&file, "mounted"),
        (&link, "linked"),
        (&later, "linked"),
        (&copy, "copied"),
        (&matched, "mounted"),
    ];
    let all = || states.iter().for_each(|(path, expected)| assert_eq!(state(path), *expected));
    all();
    assert_eq!(report()["pending"].as_array().unwrap().len(), 1);
    machine.build().ok();
    machine.switch_root();
    for path in [&directory, &file, &matched] {
        is_mounted(&machine, path);
    }
    assert_eq!(machine.run_inside(&["readlink", &link]).ok().stdout.trim_end(), format!("/persist{link}"));
    assert_eq!(machine.run_inside(&["cat", &matched]).ok().stdout, "key\n");
    machine.run_live(&["--check"]).ok();
    for _ in 0..2 {
        machine.run_live(&[]).ok();
        assert_eq!(report()["runs"].as_array().unwrap().last().unwrap()["placed"], 0);
        all();
    }
    machine.run_live(&["--settle"]).expect(1).says(&["there is still no late"]);
    machine.run_inside(&["sh", "-c", "mkdir -p /etc; echo late:x:77:0::/:/bin/sh > /etc/passwd"]).ok();
    machine.run_live(&["--settle"]).ok();
    assert_eq!(machine.run_inside(&["stat", "--format=%a %u", &directory]).ok().stdout, "750 77\n");
    // A file in place of the link, and a changed copy.
    machine
        .run_inside(&["sh", "-c", "rm \"$1\"; echo new > \"$1\"; echo new > \"$2\"", "sh", &later, &copy])
        .ok();
    machine.run_live(&["--adopt"]).ok();
    for path in [&later, &copy] {
        assert_eq!(machine.run_inside(&["cat", &format!("/persist{path}")]).ok().stdout, "new\n");
    }
    machine.impctl("status", &[]).ok();
    machine.impctl("orphans", &[]);
    // And away again.
    machine.manifest(&manifest(json!([{ "directory": "/short" }])));
    machine.run_live(&[]).ok();
    assert_eq!(report()["entries"].as_array().unwrap().len(), 1, "{:#}", report()["entries"]);
}

fn the_deepest_path() {
    let machine = Machine::new(Root::Nothing, Disk::new(Fs::Ext4, 16));
    let [directory, file] = ["/d", "/f"].map(|name| name.repeat(256));
    machine.manifest(&manifest(
        json!([{ "directory": directory, "user": "late" }, { "file": file, "missing": "create" }]),
    ));
    // The usual limit, which a unit has in the initrd.
    for _ in 0..2 {
        let home = machine.home().display();
        let line = format!(
            "ulimit -Sn 1024; exec {} --manifest {home}/manifest --cmdline {home}/cmdline --sysroot {home}/sysroot",
            imp_mount()
        );
        run(&["sh", "-c", &line]).ok();
    }
    assert_eq!((state(&directory).as_str(), state(&file).as_str()), ("mounted", "mounted"));
    assert_eq!(
        fs::metadata("/run/imp-mount/report.json.unreadable").unwrap_err().kind(),
        std::io::ErrorKind::NotFound
    );
    machine.switch_root();
    for path in [&directory, &file] {
        is_mounted(&machine, path);
    }
    machine.run_live(&["--check"]).ok();
    assert_eq!(report()["pending"].as_array().unwrap().len(), 1);
}
