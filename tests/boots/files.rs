//! Files created by the system on its first boot, and kept.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};

tests![one_first_boot, one_first_boot_with_the_systemd_of_testing, host_keys_of_ssh];

fn one_first_boot() {
    first_boot(Suite::Stable);
}

fn one_first_boot_with_the_systemd_of_testing() {
    first_boot(Suite::Testing);
}

/// Steps of the first boot only.
const FIRST: &str = "[Unit]
ConditionFirstBoot=true
Wants=first-boot-complete.target
Before=first-boot-complete.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash -c 'echo ran >> /var/lib/app/first'
";

fn manifest(entries: &Value) -> Value {
    json!({ "version": 1, "stores": [{ "path": "/persist" }], "entries": entries })
}

fn first_boot(suite: Suite) {
    let disks = Computer::new(On::Here).drives;
    let computer = Computer::with(On::Here, suite, disks);
    let entries = json!([
        { "directory": "/var/lib/app" },
        { "file": "/etc/machine-id", "missing": "machine-id" },
    ]);
    let both = Boot::new(&manifest(&entries))
        .in_etc("systemd/system/first.service", FIRST)
        .in_etc("systemd/system/multi-user.target.d/first.conf", "[Unit]\nWants=first.service\n")
        .probe(
            r#"
            well
            fact ran ran "$(cat /var/lib/app/first)"
            fact source /etc/machine-id "$(findmnt --noheadings --output FSROOT /etc/machine-id)"
            fact "the manager's id" "$(cat /etc/machine-id)" "$(systemd-id128 machine-id)"
            fact mode "0:0 444" "$(stat --format '%u:%g %a' /etc/machine-id)"
            tell id cat /etc/machine-id
            "#,
        );
    let first = both.clone().probe(
        r#"
        fact target active "$(systemctl is-active first-boot-complete.target)"
        fact service active "$(systemctl is-active first.service)"
        "#,
    );
    let later = both.probe(
        r#"
        fact target inactive "$(systemctl is-active first-boot-complete.target)"
        fact service inactive "$(systemctl is-active first.service)"
        "#,
    );
    let mut ids = vec![];
    for (number, boot) in [first, later.clone(), later].iter().enumerate() {
        let console = computer.boot(boot).passed();
        assert_eq!(console.text.contains("Detected first boot."), number == 0, "{console:?}");
        let id = console.told("id")[0].to_owned();
        computer.drive("persist").is_clean().visit(|store| {
            assert_eq!(fs::read_to_string(store.join("etc/machine-id")).unwrap(), format!("{id}\n"));
            assert_eq!(fs::read_to_string(store.join("var/lib/app/first")).unwrap(), "ran\n");
        });
        ids.push(id);
    }
    assert!(ids[0].len() == 32 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// As in NixOS: before the server, for missing keys only.
const KEYGEN: &str = "[Unit]
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_ed25519_key
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_rsa_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
";

const SSHD: &str = "[Unit]
Wants=sshd-keygen.service
After=sshd-keygen.service
[Service]
Type=notify
RuntimeDirectory=sshd
ExecStart=/usr/sbin/sshd -D -e
";

fn host_keys_of_ssh() {
    let computer = Computer::new(On::Here);
    let boot = Boot::new(&manifest(&json!([{ "file": "/etc/ssh/ssh_host_*" }])))
        .in_etc("systemd/system/sshd-keygen.service", KEYGEN)
        .in_etc("systemd/system/sshd.service", SSHD)
        .in_etc("systemd/system/multi-user.target.d/sshd.conf", "[Unit]\nWants=sshd.service\n")
        .in_etc("ssh/sshd_config", "ListenAddress 127.0.0.1\nUsePAM no\n")
        .probe(
            r#"
            tell served bash -c "ssh-keyscan -q 127.0.0.1 | sort"
            tell file bash -c "cd /etc/ssh && stat --format '%n %a %u:%g %s' ssh_host_*"
            tell sum bash -c "cd /etc/ssh && sha256sum ssh_host_*"
            fact "what is served" "$(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub)" \
                "$(ssh-keyscan -q -t ed25519 127.0.0.1 | cut -d' ' -f3)"
            "#,
        );
    let first = computer
        .boot(&boot.clone().probe(
            r#"
            fact "on the root only" 6 "$(imp-mount --check | grep --count '^on the root only ')"
            fact "not there before" "" "$(ls -A /persist/etc/ssh 2> /dev/null)"
            fails mounted mountpoint --quiet /etc/ssh/ssh_host_ed25519_key
            fact keygen success "$(systemctl show --value --property Result sshd-keygen.service)"
            fact "keys made" yes "$(systemctl show --value --property ConditionResult sshd-keygen.service)"
            "#,
        ))
        .passed();
    // Three kinds, each with its public half.
    assert_eq!((first.told("served").len(), first.told("file").len()), (3, 6), "{first:?}");
    computer.drive("persist").is_clean().visit(|store| {
        for line in first.told("file") {
            let [name, mode, owner, size] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let file = fs::metadata(store.join("etc/ssh").join(name)).unwrap();
            assert_eq!(
                format!("{:o} {}:{} {}", file.mode() & 0o7777, file.uid(), file.gid(), file.len()),
                format!("{mode} {owner} {size}")
            );
            assert_eq!(mode, if name.strip_suffix(".pub").is_some() { "644" } else { "600" });
        }
    });
    let second = computer
        .boot(&boot.probe(
            r#"
            well
            fact "keys made" no "$(systemctl show --value --property ConditionResult sshd-keygen.service)"
            for key in /etc/ssh/ssh_host_*; do
                fact "$key" "$key" "$(findmnt --noheadings --output FSROOT $key)"
            done
            "#,
        ))
        .passed();
    for what in ["served", "file", "sum"] {
        assert_eq!(first.told(what), second.told(what), "{what}");
    }
}
