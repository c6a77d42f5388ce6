//! Shutdown: files are copied to the store, unmounting is not blocked, and takes no longer than without imp-mount.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::drive::Drive;
use crate::running::{SOUND, manifest};
use crate::support::Fs;
use crate::support::command::sh_on;

tests![
    many_entries_cost_nothing,
    file_systems_are_clean,
    files_are_brought_to_the_store,
    the_first_machine_id_with_the_systemd_of_testing,
    the_first_machine_id_with_the_systemd_of_stable,
];

/// Enough directories that PID 1 takes two seconds to unmount them one by one.
const MANY: usize = 200;

fn many() -> Value {
    manifest((0..MANY).map(|number| json!({ "directory": format!("/srv/data{number}") })).collect())
}

fn many_entries_cost_nothing() {
    let off = |boot: Boot, label: &str| {
        let drive = Drive::formatted(label, Fs::Ext4, 64, "-L persist");
        let drive = Drive { label: "persist".into(), ..drive };
        let computer = Computer::with(On::Here, Suite::Testing, vec![drive]);
        let boot = boot.probe("fact state running \"$state\"\n");
        // Others may be using this machine, too.
        let times = [(); 2].map(|()| computer.boot(&boot).passed().since("PROBE ends"));
        times.into_iter().min().unwrap()
    };
    let nothing = off(Boot::ordinary(), "none");
    let ours = off(
        Boot::new(&many()).probe(&format!(
            r#"
            fact mounts {MANY} "$(grep -c " /srv/data" /proc/self/mountinfo)"
            fact "PID 1 unmounts" "" "$(systemctl show --property=Conflicts --value 'srv-*.mount' | sort --unique)"
            "#
        )),
        "many",
    );
    assert!(ours < nothing + Duration::from_secs(1), "{ours:?}, with none {nothing:?}");
}

fn file_systems_are_clean() {
    let computer = Computer::with(On::Uml, Suite::Testing, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let boot = Boot::new(&many())
        // To see the last words of systemd-shutdown.
        .cmdline("loglevel=7")
        .probe("for folder in /srv/data*; do echo kept > $folder/file; done\n")
        .probe(SOUND);
    let console = computer.boot(&boot).passed().says(&["All filesystems unmounted."]);
    for word in ["Failed to unmount", "busy", "Unable to finalize"] {
        assert!(!console.text.contains(word), "{word}: {console:?}");
    }
    let drive = computer.drive("persist");
    let superblock = sh_on("dumpe2fs -h", &[&drive.image]);
    let state = superblock.lines().find_map(|line| line.strip_prefix("Filesystem state:")).unwrap();
    assert_eq!(state.trim(), "clean");
    assert!(!superblock.contains("needs_recovery"), "{superblock}");
    sh_on("e2fsck -f -n", &[&drive.image]);
    drive.visit(|store| {
        for number in 0..MANY {
            let file = store.join(format!("srv/data{number}/file"));
            assert_eq!(fs::read_to_string(file).unwrap(), "kept\n");
        }
    });
}

fn files_are_brought_to_the_store() {
    let computer = Computer::new(On::Here);
    let names = ["copied", "linked", "keys/key_old"];
    computer.drive("persist").visit(|store| {
        fs::create_dir_all(store.join("etc/keys")).unwrap();
        for name in names {
            fs::write(store.join("etc").join(name), "old").unwrap();
        }
    });
    let entries = json!([
        { "file": "/etc/copied", "method": "copy" },
        { "file": "/etc/linked", "method": "symlink" },
        { "file": "/etc/keys/key_*" },
    ]);
    let boot = Boot::new(&manifest(entries));
    let saves = boot
        .clone()
        // As late as a service can be.
        .in_etc(
            "systemd/system/saver.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=/bin/bash /etc/save\n",
        )
        .in_etc("systemd/system/multi-user.target.d/saver.conf", "[Unit]\nWants=saver.service\n")
        .in_etc(
            "save",
            r#"
            for name in copied linked keys/key_new; do
                echo saved > "/etc/$name.tmp"
                mv "/etc/$name.tmp" "/etc/$name"
            done
            # Should others have been faster.
            sleep 0.5
            "#,
        )
        .probe(
            r#"
            fact copied old "$(cat /etc/copied)"
            fact linked /persist/etc/linked "$(readlink /etc/linked)"
            fact matched /etc/keys/key_old "$(findmnt --noheadings --output FSROOT /etc/keys/key_old)"
            "#,
        )
        .probe(SOUND);
    computer.boot(&saves).passed();
    computer.drive("persist").visit(|store| {
        let on_disk = |name| fs::read_to_string(store.join("etc").join(name)).unwrap();
        for name in ["copied", "linked", "keys/key_new"] {
            assert_eq!(on_disk(name), "saved\n", "{name}");
        }
        assert_eq!(on_disk("keys/key_old"), "old");
        assert_eq!(fs::read_dir(store.join("etc/keys")).unwrap().count(), 2);
    });
    let second = boot.probe(SOUND).probe(
        r#"
        fact copied saved "$(cat /etc/copied)"
        fact linked saved "$(cat /etc/linked)"
        fact "linked again" /persist/etc/linked "$(readlink /etc/linked)"
        fact matched /etc/keys/key_new "$(findmnt --noheadings --output FSROOT /etc/keys/key_new)"
        "#,
    );
    computer.boot(&second).passed();
}

fn the_first_machine_id_with_the_systemd_of_testing() {
    the_first_machine_id(Suite::Testing);
}

fn the_first_machine_id_with_the_systemd_of_stable() {
    the_first_machine_id(Suite::Stable);
}

/// On a first boot PID 1 has a tmpfs over the file, until systemd-machine-id-commit.service unmounts the tmpfs. A busy PID 1
/// learns of this late, sometimes during a shutdown, and must not wait for ever then. Here the tmpfs is unmounted at the worst
/// moment: when all other jobs wait for the unmounting of the file.
fn the_first_machine_id(suite: Suite) {
    let computer = Computer::with(On::Here, suite, vec![Drive::new("persist", Fs::Ext4, 64)]);
    let boot = Boot::new(&manifest(json!([{ "file": "/etc/machine-id", "missing": "machine-id" }])))
        .in_etc("systemd/system/systemd-machine-id-commit.service", "")
        .in_etc(
            "systemd/system/late-commit.service",
            "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target shutdown.target\nConflicts=shutdown.target\n\
             [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n\
             ExecStop=systemd-machine-id-setup --commit\nExecStop=sleep 1.5\n",
        )
        .in_etc("systemd/system/local-fs.target.d/commit.conf", "[Unit]\nWants=late-commit.service\n")
        .in_etc("systemd/system/etc-machine\\x2did.mount.d/late.conf", "[Unit]\nBefore=late-commit.service\n")
        .probe("fact over tmpfs \"$(findmnt --noheadings --output FSTYPE /etc/machine-id | tail -n1)\"\n")
        .probe("tell machine-id cat /etc/machine-id\n")
        .probe("fact state running \"$state\"\n");
    let console = computer.boot(&boot).passed().says(&["Detected first boot."]);
    let id =
        computer.drive("persist").visit(|store| fs::read_to_string(store.join("etc/machine-id")).unwrap());
    assert_eq!(id.trim(), console.told("machine-id")[0]);
}
