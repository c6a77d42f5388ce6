//! Installed systems of other distributions, as their packages make them.

use serde_json::{Value, json};

use super::{FSTAB, Tree, are};

const RPM: &[(&str, &str)] = &[
    (
        "etc/fstab",
        "UUID=a / btrfs subvol=root 0 0\nUUID=b /boot ext4 defaults 0 0\nUUID=c /boot/efi vfat defaults 0 0\n",
    ),
    ("etc/crypttab", "luks-a UUID=a none discard\n"),
    ("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n"),
    ("etc/NetworkManager/system-connections/wifi.nmconnection", "[connection]\n"),
    (
        "etc/ssh/sshd_config",
        "Include /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile .ssh/authorized_keys\n",
    ),
    ("etc/pam.d/sshd", "auth substack password-auth\n"),
    // Users and groups.
    (
        "usr/lib/sysusers.d/basic.conf",
        "u! root 0 - \"Super User\" /root /bin/bash\nu! nobody 65534:65534 \"Kernel Overflow User\" / /usr/sbin/nologin\n",
    ),
    (
        "usr/lib/sysusers.d/20-setup-users.conf",
        "u bin 1 \"bin\" /bin -\nu lp 4 \"lp\" /var/spool/lpd -\nu mail 8:12 \"mail\" /var/spool/mail -\n\
         u games 12:100 \"games\" /usr/games -\nu ftp 14:50 \"FTP User\" /var/ftp -\n",
    ),
    ("usr/lib/sysusers.d/chrony.conf", "u chrony - \"chrony system user\" /var/lib/chrony /sbin/nologin\n"),
    ("usr/lib/sysusers.d/sssd.conf", "u sssd - \"User for sssd\" / /sbin/nologin\n"),
    (
        "usr/lib/sysusers.d/openssh-server.conf",
        "u! sshd 74 \"Privilege-separated SSH\" /usr/share/empty.sshd\n",
    ),
    ("usr/lib/sysusers.d/abrt.conf", "u abrt 173 \"\" /etc/abrt /sbin/nologin\n"),
    // Rules.
    (
        "usr/lib/tmpfiles.d/var.conf",
        "q /var 0755 - - -\nL /var/run - - - - ../run\nd /var/log 0755 - - -\nd /var/cache 0755 - - -\nd /var/lib 0755 - - -\n\
         d /var/spool 0755 - - -\n",
    ),
    ("usr/lib/tmpfiles.d/home.conf", "Q /home 0755 - - -\nq /srv 0755 - - -\n"),
    ("usr/lib/tmpfiles.d/tmp.conf", "q /tmp 1777 root root 10d\nq /var/tmp 1777 root root 30d\n"),
    (
        "usr/lib/tmpfiles.d/dbus.conf",
        "d /var/lib/dbus 0755 - - -\nL /var/lib/dbus/machine-id - - - - /etc/machine-id\n",
    ),
    (
        "usr/lib/tmpfiles.d/abrt.conf",
        "d /var/tmp/abrt 0755 abrt abrt\nx /var/tmp/abrt/*\nd /run/abrt 0755 root root\n",
    ),
    (
        "usr/lib/tmpfiles.d/podman.conf",
        "x /tmp/podman-run-*\nD! /run/podman 0700 root root\nD! /var/lib/containers/storage/tmp 0700 root root\n",
    ),
    // Services.
    (
        "usr/lib/systemd/system/sshd.service",
        "[Unit]\nWants=sshd-keygen.target\n[Service]\nEnvironmentFile=-/etc/sysconfig/sshd\nExecStart=/usr/sbin/sshd -D $OPTIONS\n",
    ),
    ("etc/sysconfig/sshd", "OPTIONS=\n"),
    (
        "usr/lib/systemd/system/sshd-keygen@.service",
        "[Unit]\nConditionFileNotEmpty=|!/etc/ssh/ssh_host_%i_key\n[Service]\nType=oneshot\nEnvironmentFile=-/etc/sysconfig/sshd\n\
         ExecStart=/usr/libexec/openssh/sshd-keygen %i\n",
    ),
    (
        "usr/libexec/openssh/sshd-keygen",
        "#!/usr/bin/bash\nKEYTYPE=$1\nKEY=/etc/ssh/ssh_host_${KEYTYPE}_key\nrm -f $KEY{,.pub}\n/usr/bin/ssh-keygen -q -t $KEYTYPE -f $KEY -C '' -N ''\n",
    ),
    (
        "usr/lib/systemd/system/NetworkManager.service",
        "[Service]\nType=dbus\nBusName=org.freedesktop.NetworkManager\nExecStart=/usr/bin/NetworkManager --no-daemon\n\
         ProtectSystem=true\nReadWritePaths=-/etc\n",
    ),
    (
        "usr/lib/systemd/system/firewalld.service",
        "[Service]\nEnvironmentFile=-/etc/sysconfig/firewalld\nExecStart=/usr/sbin/firewalld --nofork --nopid $FIREWALLD_ARGS\n",
    ),
    (
        "usr/lib/systemd/system/chronyd.service",
        "[Service]\nEnvironmentFile=-/etc/sysconfig/chronyd\nExecStart=/usr/sbin/chronyd -n $OPTIONS\nProtectSystem=strict\n\
         ReadWritePaths=/run /var/lib/chrony -/var/log\n",
    ),
    (
        "usr/lib/systemd/system/sssd.service",
        "[Service]\nEnvironment=DEBUG_LOGGER=--logger=files\nEnvironmentFile=-/etc/sysconfig/sssd\nExecStart=/usr/sbin/sssd -i ${DEBUG_LOGGER}\n\
         ",
    ),
    (
        "usr/lib/systemd/system/systemd-homed.service",
        "[Service]\nBusName=org.freedesktop.home1\nExecStart=/usr/lib/systemd/systemd-homed\nStateDirectory=systemd/home\n",
    ),
    ("usr/lib/systemd/system/abrtd.service", "[Service]\nType=dbus\nExecStart=/usr/sbin/abrtd -d -s\n"),
    (
        "usr/lib/systemd/system/podman.service",
        "[Service]\nType=exec\nEnvironment=LOGGING=\"--log-level=info\"\nExecStart=/usr/bin/podman $LOGGING system service\n",
    ),
    (
        "usr/lib/systemd/system/dnf-makecache.service",
        "[Service]\nType=oneshot\nEnvironment=\"ABRT_IGNORE_PYTHON=1\"\nExecStart=/usr/bin/dnf makecache --timer\n",
    ),
    (
        "usr/lib/systemd/system/systemd-zram-setup@.service",
        "[Service]\nType=oneshot\nExecStart=/usr/lib/systemd/system-generators/zram-generator --setup-device '%i'\n",
    ),
    ("usr/lib/systemd/zram-generator.conf", "[zram0]\nzram-size = min(ram, 8192)\n"),
    // Files of packages and programs.
    ("usr/lib/sysimage/rpm/rpmdb.sqlite", "x"),
    ("var/lib/dnf/history.sqlite", "x"),
    ("var/lib/selinux/targeted/active/seusers", "x"),
    ("var/lib/authselect/checksum", "x"),
    ("var/lib/sss/db/cache_example.ldb", "x"),
    ("var/spool/abrt/last-ccpp", "x"),
    ("var/lib/containers/storage/storage.lock", ""),
];

/// A Fedora, with the links of its packages.
fn fedora() -> Tree {
    let tree = Tree::of(RPM);
    for (link, to) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("usr/sbin", "bin"),
        ("var/lib/rpm", "../../usr/lib/sysimage/rpm"),
        ("var/run", "../run"),
        ("etc/systemd/system/multi-user.target.wants/sshd.service", "/usr/lib/systemd/system/sshd.service"),
        (
            "etc/systemd/system/multi-user.target.wants/chronyd.service",
            "/usr/lib/systemd/system/chronyd.service",
        ),
        (
            "etc/systemd/system/dbus-org.freedesktop.home1.service",
            "/usr/lib/systemd/system/systemd-homed.service",
        ),
        ("etc/systemd/system/systemd-timesyncd.service", "/dev/null"),
        ("etc/localtime", "../usr/share/zoneinfo/Europe/Prague"),
    ] {
        tree.link(link, to);
    }
    tree
}

const PEOPLE: &str = "root:x:0:0::/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n";

/// Losses of an installed Fedora with /usr and /etc kept, as lines of a manifest.
const STATE: [&str; 11] = [
    r#"{ directory = "/home/ada"; user = "ada"; group = "ada"; mode = "0700"; }"#,
    r#""/var/lib/NetworkManager""#,
    r#""/var/lib/authselect""#,
    r#"{ directory = "/var/lib/chrony"; user = "chrony"; group = "chrony"; mode = "0700"; }"#,
    r#"{ directory = "/var/lib/containers"; mountOptions = [ "suid" "dev" ]; }"#,
    r#""/var/lib/dnf""#,
    r#""/var/lib/selinux""#,
    r#""/var/lib/sss""#,
    r#""/var/lib/systemd""#,
    r#""/var/log""#,
    r#"{ directory = "/var/spool/abrt"; group = "abrt"; mode = "0751"; }"#,
];

fn keep(tree: &Tree, entries: Value) {
    let stores = json!([{ "path": "/persist", "device": "/dev/sdb" }]);
    tree.manifest(&json!({ "version": 1, "root": {}, "stores": stores, "entries": entries }));
}

#[test]
fn a_fedora() {
    let tree = fedora();
    tree.put("etc/passwd", PEOPLE);
    tree.put("etc/group", "root:x:0:\nada:x:1000:\n");
    keep(&tree, json!([{ "directory": "/usr", "options": ["suid"] }, { "directory": "/etc" }]));
    are(&tree.lost(), &STATE);
    let said = tree.audit(&[]);
    let line = r#"{"directory":"/var/lib/chrony","group":"chrony","mode":"0700","user":"chrony"},  # the home of chrony, chronyd.service"#;
    assert!(said.text.contains(line), "{}", said.text);
    let entries: Vec<_> =
        said.json["lost"].as_array().unwrap().iter().map(|it| it["entry"].clone()).collect();
    keep(
        &tree,
        Value::Array(
            [vec![json!({ "directory": "/usr" }), json!({ "directory": "/etc" })], entries].concat(),
        ),
    );
    are(&tree.lost(), &[]);
}

#[test]
fn a_fedora_whose_etc_is_lost() {
    let tree = fedora();
    tree.put("etc/passwd", PEOPLE);
    keep(&tree, json!([{ "file": "/etc/machine-id" }]));
    assert_eq!(tree.faults(), ["/usr", "/etc"]);
    let lost = tree.audit(&[]).lost();
    for path in [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/NetworkManager/system-connections",
    ] {
        assert!(lost.contains_key(path), "{path}: {lost:?}");
    }
    // Without passwd(5) the users are those of sysusers.d, at every boot.
    let tree = fedora();
    keep(
        &tree,
        json!([{ "directory": "/usr" }, { "file": "/etc/machine-id" }, { "directory": "/var" }, { "file": "/etc/ssh/ssh_host_*" }]),
    );
    are(&tree.lost(), &[r#"{ directory = "/etc/NetworkManager/system-connections"; mode = "0700"; }"#]);
}

#[test]
fn an_ostree() {
    let tree = fedora();
    for name in ["home", "srv", "opt", "mnt"] {
        tree.link(name, &format!("var/{name}"));
    }
    tree.link("root", "var/roothome");
    tree.put("etc/passwd", "root:x:0:0::/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\nbob:x:1001:1001::/var/home/bob:/bin/bash\n");
    tree.put("usr/lib/passwd", "chrony:x:980:979:chrony system user:/var/lib/chrony:/sbin/nologin\n");
    tree.put("usr/lib/group", "chrony:x:979:\n");
    tree.put(
        "etc/systemd/system/backup.service",
        "[Service]\nExecStart=/usr/bin/backup /srv/backup/all\nReadWritePaths=/root/.config/backup\n",
    );
    keep(
        &tree,
        json!([{ "directory": "/usr" }, { "directory": "/etc" }, { "directory": "/var/lib" }, { "directory": "/var/log" },
        { "directory": "/var/spool" }]),
    );
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/var/home/ada"; user = "ada"; group = "1000"; mode = "0700"; }"#,
            r#"{ directory = "/var/home/bob"; user = "bob"; group = "1001"; mode = "0700"; }"#,
            r#"{ directory = "/var/roothome/.config/backup"; mode = "0700"; }"#,
            r#""/var/srv/backup""#,
        ],
    );
    keep(&tree, json!([{ "directory": "/usr" }, { "directory": "/etc" }, { "directory": "/var" }]));
    are(&tree.lost(), &[]);
}

#[test]
fn homes_of_systemd_homed() {
    let tree = fedora();
    tree.put("etc/passwd", PEOPLE);
    tree.put("home/bob.homedir/.identity", "{}");
    tree.put("home/carol.home", "");
    keep(
        &tree,
        json!([{ "directory": "/usr" }, { "directory": "/etc" }, { "directory": "/var" }, { "directory": "/home/ada" }]),
    );
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/home/bob.homedir"; mode = "0700"; }"#,
            r#"{ file = "/home/carol.home"; mode = "0600"; }"#,
        ],
    );
}

#[test]
fn a_debian() {
    let tree = Tree::of(&[
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nlp:x:7:7:lp:/var/spool/lpd:/usr/sbin/nologin\nuucp:x:10:10:uucp:/var/spool/uucp:/usr/sbin/nologin\n\
            www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
            postgres:x:105:109:PostgreSQL:/var/lib/postgresql:/bin/bash\n",
        ),
        ("etc/group", "lp:x:7:\npostgres:x:109:\n"),
        ("etc/fstab", "UUID=a / ext4 errors=remount-ro 0 1\n"),
        ("lib/systemd/system/dbus.service", "[Service]\nExecStart=/usr/bin/dbus-daemon --system\n"),
        (
            "usr/lib/tmpfiles.d/dbus.conf",
            "d /var/lib/dbus 0755 - - -\nL /var/lib/dbus/machine-id - - - - /etc/machine-id\n",
        ),
        (
            "usr/lib/systemd/system/cron.service",
            "[Service]\nEnvironmentFile=-/etc/default/cron\nExecStart=/usr/sbin/cron -f $EXTRA_OPTS\n",
        ),
        ("var/lib/dpkg/status", "x"),
        ("var/lib/apt/extended_states", "x"),
    ]);
    keep(
        &tree,
        json!([{ "directory": "/usr" }, { "directory": "/etc" }, { "directory": "/var/log" }, { "directory": "/var/lib/systemd" }]),
    );
    are(
        &tree.lost(),
        &[
            r#""/var/lib/apt""#,
            r#""/var/lib/dpkg""#,
            r#"{ directory = "/var/lib/postgresql"; user = "postgres"; group = "postgres"; mode = "0750"; }"#,
            r#""/var/spool/cron""#,
        ],
    );
}

#[test]
fn directories_that_rules_give_to_users() {
    let tree = Tree::of(&[
        ("etc/fstab", FSTAB),
        (
            "usr/lib/tmpfiles.d/a.conf",
            "d /var/spool/a/one\nZ /var/spool/a - ada users\nz /srv/b 0750 bob\nd /srv/b\nd /srv/c\nz /srv - eve\n",
        ),
    ]);
    are(
        &tree.lost(),
        &[
            r#"{ directory = "/srv/b"; user = "bob"; mode = "0750"; }"#,
            r#""/srv/c""#,
            r#"{ directory = "/var/spool/a/one"; user = "ada"; group = "users"; }"#,
        ],
    );
}
