//! The first scripts of a new developer: their messages about missing tools, and their remains.

use std::fs;
use std::io::{Read, pipe};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::command::sh;
use crate::support::run;

tests![programs_beside_end_with_the_script, a_cargo_that_does_not_do];

const NEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/needs");

/// Ctrl-C goes to the terminal's process group, of which the work beside is no part.
fn programs_beside_end_with_the_script() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut said, writer) = pipe().unwrap();
        // Sent when no process forks any more, and no process of the script ignores the signal, as its own background children do with
        // SIGINT.
        let script = format!(
            ". {NEEDS}\nwork() {{ sleep 1000 & : > /tmp/ready; wait; }}\nbeside work\n\
             until [[ -e /tmp/ready ]]; do :; done\nrm /tmp/ready\necho started\nwait \"$beside\""
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).stdin(Stdio::null()).stdout(writer).process_group(0);
        let mut started = bash.spawn().unwrap();
        // It would hold the pipe open.
        drop(bash);
        let mut word = [0; 8];
        said.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"started\n");
        kill_process_group(Pid::from_child(&started), signal).unwrap();
        started.wait().unwrap();
        // The end comes when the last of them is gone.
        assert_eq!(said.read_to_end(&mut Vec::new()).unwrap(), 0, "{signal:?}");
    }
}

fn a_cargo_that_does_not_do() {
    let at = |said: &str, code: u32| {
        sh("mkdir -p /tmp/bin /tmp/none");
        fs::write("/tmp/bin/cargo", format!("#!/bin/sh\necho '{said}'\nexit {code}\n")).unwrap();
        fs::set_permissions("/tmp/bin/cargo", fs::Permissions::from_mode(0o755)).unwrap();
    };
    let needs = |path: &str, user: &str| {
        let script = format!("SUDO_USER={user} PATH={path}; . {NEEDS}; needs <<< 'sh dash'");
        run(&["bash", "-c", &script, "tests/demo"])
    };
    let sudo = "sudo env PATH=\"$PATH\" RUSTUP_HOME=\"$HOME/.rustup\" tests/demo";
    let found = "/tmp/bin:/usr/bin:/bin";

    at("cargo 1.88.0 (873a06493 2025-05-10)", 0);
    assert_eq!(needs(found, "").ok().stderr, "");
    at("cargo 1.100.2-nightly (873a06493 2025-05-10)", 0);
    assert_eq!(needs(found, "ada").ok().stderr, "");
    at("cargo 1.9.0 (873a06493 2015-05-10)", 0);
    needs(found, "").expect(1).says(&["cargo is 1.9.0, and has to be 1.88 or newer"]);
    at("rustup could not choose a version of cargo to run", 1);
    needs(found, "ada").expect(1).says(&["cargo does not work: rustup could not", sudo]);

    // Programs, but no cargo.
    run(&["sh", "-c", "for name in sed sh; do ln -s \"$(command -v $name)\" /tmp/none; done"]).ok();
    needs("/tmp/none", "ada").expect(1).says(&["missing: cargo, 1.88 or newer", sudo]);
    assert!(!needs("/tmp/none", "").expect(1).stderr.contains("sudo"));
}
