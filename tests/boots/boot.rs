//! One boot: its initrd, its mounts, and the probes on the running system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::run;
use crate::{nixos, units};

/// A file system of the initrd, as a line of its fstab.
#[derive(Debug, Clone)]
pub struct Line {
    pub what: String,
    pub at: String,
    pub fstype: String,
    pub options: String,
    /// A unit before the mount, such as a device's.
    pub needs: Option<&'static str>,
}

/// A boot, described.
#[derive(Debug, Clone)]
pub struct Boot {
    /// True with imp-mount in the initrd.
    program: bool,
    /// The impctl on the running system.
    impctl: Option<&'static Path>,
    /// The compiled manifest.
    manifest: Option<Vec<u8>>,
    /// The manifest's root.
    root: Value,
    /// True with the unit of the early phase.
    early: bool,
    /// True if an entry is mounted on the running system only.
    live: bool,
    /// The host of NixOS for its units, in place of those made here.
    host: Option<&'static str>,
    pub fstab: Vec<Line>,
    /// The manifest's stores, for which units of the running system wait; those of the initrd wait for its mounts.
    stores: Vec<String>,
    pub cmdline: String,
    probe: String,
    /// Input for the emergency shell; none to see the shell itself.
    emergency: Option<String>,
    /// Input, each line after some text on the console.
    pub typed: Vec<(String, String)>,
    /// Its end, a verb of systemctl.
    end: &'static str,
    initrd: Vec<(String, Vec<u8>)>,
    system: Vec<(String, String)>,
}

/// Compiles a manifest, which must be right.
#[track_caller]
pub fn compile(manifest: &Value) -> Vec<u8> {
    let (json, compiled) = ("/tmp/manifest.json", "/tmp/manifest");
    fs::write(json, manifest.to_string()).unwrap();
    run(&[env!("CARGO_BIN_EXE_impctl"), "compile", json, "-o", compiled]).ok();
    fs::read(compiled).unwrap()
}

impl Boot {
    /// A boot with a tmpfs of systemd as its root, /nix on a disk of its own, and a store at /persist.
    #[track_caller]
    pub fn new(manifest: &Value) -> Self {
        let mut boot = Self::with(Some(compile(manifest)));
        boot.root = manifest["root"].clone();
        let mut entries = manifest["entries"].as_array().into_iter().flatten();
        boot.live = entries.any(|entry| entry["phase"] == "live");
        let stores = manifest["stores"].as_array().into_iter().flatten().map(|store| &store["path"]);
        let stores = stores.chain(manifest["root"].get("convert"));
        boot.stores = stores.map(|path| path.as_str().unwrap().to_owned()).collect();
        boot
    }

    /// A boot without imp-mount.
    pub fn ordinary() -> Self {
        Self { program: false, ..Self::with(None) }
    }

    /// A boot with any bytes as its manifest, or with none.
    pub fn with(manifest: Option<Vec<u8>>) -> Self {
        Self {
            program: true,
            impctl: None,
            manifest,
            root: Value::Null,
            early: true,
            live: false,
            host: None,
            fstab: vec![],
            stores: vec![],
            cmdline: String::new(),
            probe: String::new(),
            emergency: Some(String::new()),
            typed: vec![],
            end: "poweroff",
            initrd: vec![],
            system: vec![],
        }
        .mount("tmpfs", "/", "tmpfs", "mode=0755")
        .mount("LABEL=nix", "/nix", "ext4", "ro")
        .store("LABEL=persist", "/persist", "ext4", "")
    }

    /// Without the early unit, as in the NixOS module without need.
    pub fn late(self) -> Self {
        Self { early: false, ..self }
    }

    /// With the units of a host of `tests/nixos/order`.
    pub fn of_nixos(self, host: &'static str) -> Self {
        Self { host: Some(host), ..self }
    }

    /// Lets systemd mount a file system in the initrd, in place of the one at this path.
    pub fn mount(mut self, what: &str, at: &str, fstype: &str, options: &str) -> Self {
        self = self.without(at);
        self.fstab.push(Line {
            what: what.into(),
            at: at.into(),
            fstype: fstype.into(),
            options: options.into(),
            needs: None,
        });
        self
    }

    /// Lets the last file system wait for a unit, in the initrd and in the system.
    pub fn needs(mut self, name: &'static str, unit: &str) -> Self {
        self.fstab.last_mut().unwrap().needs = Some(name);
        let path = format!("systemd/system/{name}");
        self.in_initrd(&format!("etc/{path}"), unit).in_etc(&path, unit)
    }

    /// Lets systemd mount a store in the initrd.
    pub fn store(mut self, what: &str, at: &str, fstype: &str, options: &str) -> Self {
        self = self.mount(what, at, fstype, options);
        if !self.stores.iter().any(|store| store == at) {
            self.stores.push(at.into());
        }
        self
    }

    /// Lets systemd mount the disk of a conversion, with the whole system.
    pub fn converts(self, what: &str) -> Self {
        let boot = self.mount(what, "/", "ext4", "").without("/nix").without("/persist");
        // As in the NixOS module: the running system's root is no disk.
        boot.in_etc("fstab", "imp-mount / tmpfs defaults 0 0\n")
    }

    /// With impctl on the running system.
    pub fn with_impctl(self) -> Self {
        Self { impctl: Some(Path::new(env!("CARGO_BIN_EXE_impctl"))), ..self }
    }

    /// Takes a file system out of the fstab.
    pub fn without(mut self, at: &str) -> Self {
        self.fstab.retain(|line| line.at != at);
        self
    }

    /// Words for the kernel's command line.
    pub fn cmdline(mut self, words: &str) -> Self {
        self.cmdline = words.into();
        self
    }

    /// Commands for the running system, see `guest/probe`.
    pub fn probe(mut self, commands: &str) -> Self {
        self.probe.push_str(commands);
        self
    }

    /// Commands for the emergency shell, after `guest/emergency`.
    pub fn in_emergency(mut self, commands: &str) -> Self {
        self.emergency.get_or_insert_default().push_str(commands);
        self
    }

    /// Types a line in the real emergency shell, after a text on the console since the line before.
    pub fn types(mut self, after: &str, line: &str) -> Self {
        self.emergency = None;
        self.typed.push((after.into(), line.into()));
        self
    }

    /// A file in the initrd.
    pub fn in_initrd(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.initrd.push((path.into(), content.as_ref().to_vec()));
        self
    }

    /// A file in the system's /etc: `systemd/system/a.service`.
    pub fn in_etc(mut self, path: &str, text: &str) -> Self {
        self.system.push((path.into(), text.into()));
        self
    }

    /// Ends with a reboot, where the machine can.
    pub fn reboot(mut self) -> Self {
        self.end = "reboot";
        self
    }

    /// Writes the files of this boot's initrd beyond its programs. `devices` is true with device units of systemd there.
    pub fn write(&self, to: &Path, program: &Path, devices: bool) {
        let put_bytes = |path: &str, content: &[u8]| {
            let path = to.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            if content.starts_with(b"#!") || content.starts_with(b"\x7fELF") {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        };
        let put = |path: &str, text: &str| put_bytes(path, text.as_bytes());
        let units = "etc/systemd/system";
        let link = |unit: &str, by: &str| {
            let folder = to.join(units).join(by);
            fs::create_dir_all(&folder).unwrap();
            symlink(format!("../{unit}"), folder.join(unit)).unwrap();
        };

        put("etc/systemd/system.conf", MANAGER);
        put("etc/systemd/system/initrd-parse-etc.service.d/fstab.conf", PARSE_ETC);
        if let Some(commands) = &self.emergency {
            put("boot/emergency", &format!("{EMERGENCY}{commands}\n{EMERGENCY_END}"));
            let dropin = "etc/systemd/system/emergency.service.d/test.conf";
            put(dropin, &emergency_shell("/boot/emergency"));
            put(&format!("boot/{dropin}"), &emergency_shell("/run/boot/emergency"));
        }
        put("boot/activate", include_str!("guest/activate"));
        put("boot/probe", &probe_script(&self.probe, self.end));

        match self.host {
            Some(host) => nixos::write_units(to, host),
            None => write_nixos(&put, &link),
        }
        put("boot/etc/systemd/system/probe.service", &probe_unit("/run/boot/probe"));
        put("boot/etc/systemd/system/multi-user.target.d/probe.conf", "[Unit]\nWants=probe.service\n");

        let (mut initrd_fstab, mut fstab) = (String::new(), String::new());
        for line in &self.fstab {
            let options = format!("x-initrd.mount,{}", line.options);
            let options = options.trim_end_matches(',');
            // Only ext4 has a real fsck, and the initrd has no other.
            let checked = line.fstype == "ext4" && self.stores.contains(&line.at);
            let pass = if checked { 2 } else { 0 };
            let text = format!("{} {} {} {options} 0 {pass}\n", line.what, line.at, line.fstype);
            fstab.push_str(&text);
            if devices {
                initrd_fstab.push_str(&text);
                continue;
            }
            // In a container systemd ignores lines with a device.
            let (name, target) = units::of_mount("/sysroot", &line.at);
            put(&format!("{units}/{name}"), &units::mount(line, "/sysroot", target));
            link(&name, &format!("{target}.requires"));
            if line.at != "/" {
                let (name, _) = units::of_mount("", &line.at);
                put(&format!("boot/{units}/{name}"), &units::mount(line, "", "local-fs.target"));
            }
        }
        put("etc/initrd-fstab", &initrd_fstab);
        put("boot/etc/fstab", if devices { &fstab } else { "" });

        if self.program {
            for folder in ["usr/bin", "boot/bin"] {
                fs::create_dir_all(to.join(folder)).unwrap();
                fs::copy(program, to.join(folder).join("imp-mount")).unwrap();
            }
            install_generator(to);
            for folder in ["etc/imp-mount", "boot/etc/imp-mount"] {
                let Some(manifest) = &self.manifest else { break };
                fs::create_dir_all(to.join(folder)).unwrap();
                fs::write(to.join(folder).join("manifest"), manifest).unwrap();
            }
        }
        if self.program && self.host.is_none() {
            put(&format!("boot/{units}/systemd-machine-id-commit.service.d/first.conf"), MACHINE_ID_COMMIT);
            let mounted = |at: &String| self.fstab.iter().any(|line| line.at == *at);
            let stores: Vec<_> = self.stores.iter().filter(|at| mounted(at)).cloned().collect();
            // Over a future root everything else is mounted later.
            let others = self.fstab.iter().filter(|line| line.at != "/" && !stores.contains(&line.at));
            let others = others.map(|line| line.at.clone()).chain(["/run".into()]);
            let others: Vec<_> = others.filter(|_| !self.root.is_null()).collect();
            let late = |unit: &units::Unit| self.early || unit.name != "imp-mount-early.service";
            for unit in units::initrd(&stores, &others).into_iter().filter(late) {
                put(&format!("{units}/{}", unit.name), &unit.text);
                unit.pulled_in.iter().for_each(|by| link(&unit.name, by));
            }
            for unit in units::system(&self.stores, self.live) {
                put(&format!("boot/{units}/{}", unit.name), &unit.text);
                for by in &unit.pulled_in {
                    let (by, how) = by.rsplit_once('.').unwrap();
                    let how = if how == "wants" { "Wants" } else { "Requires" };
                    let name = unit.name.trim_end_matches(".service");
                    put(
                        &format!("boot/{units}/{by}.d/{name}.conf"),
                        &format!("[Unit]\n{how}={}\n", unit.name),
                    );
                }
            }
        }
        if let Some(impctl) = self.impctl {
            fs::copy(impctl, to.join("boot/bin/impctl")).unwrap();
        }
        for (path, content) in &self.initrd {
            put_bytes(path, content);
        }
        for (path, text) in &self.system {
            put(&format!("boot/etc/{path}"), text);
        }
    }
}

/// Writes stand-ins for units of NixOS's initrd.
fn write_nixos(put: &dyn Fn(&str, &str), link: &dyn Fn(&str, &str)) {
    let units = "etc/systemd/system";
    put(&format!("{units}/initrd-switch-root.service.d/nixos.conf"), SWITCH_ROOT);
    put(&format!("{units}/sysroot-run.mount"), RUN_MOUNT);
    link("sysroot-run.mount", "initrd-fs.target.requires");
    put(&format!("{units}/initrd-nixos-activation.service"), ACTIVATION);
    link("initrd-nixos-activation.service", "initrd-switch-root.service.requires");
}

/// Makes the program systemd's generator, in the initrd and in the system.
fn install_generator(to: &Path) {
    for (folder, program) in [("", "/usr/bin/imp-mount"), ("boot", "/run/boot/bin/imp-mount")] {
        let folder = to.join(folder).join("etc/systemd/system-generators");
        fs::create_dir_all(&folder).unwrap();
        symlink(program, folder.join("imp-mount-generator")).unwrap();
    }
}

fn emergency_shell(script: &str) -> String {
    format!("[Service]\nExecStart=\nExecStart=/bin/bash {script}\n")
}

/// Commands in the running system after `guest/probe`, and the end of the boot.
pub fn probe_script(commands: &str, end: &str) -> String {
    format!("{PROBE}{commands}\necho 'PROBE ends'\nsystemctl --no-block {end}\n")
}

/// The unit of this script, after everything else.
pub fn probe_unit(script: &str) -> String {
    format!(
        "[Unit]
Description=What a Test Looks at
After=multi-user.target
[Service]
Type=exec
ExecStart=/bin/bash {script}
StandardOutput=tty
TTYPath=/dev/console
"
    )
}

const PROBE: &str = include_str!("guest/probe");
const EMERGENCY: &str = include_str!("guest/emergency");
const EMERGENCY_END: &str = "echo 'EMERGENCY ends'\nsync\npoweroff -f\n";

// The units of NixOS's initrd, without its paths.

const MANAGER: &str = "[Manager]
DefaultEnvironment=PATH=/bin:/sbin
ManagerEnvironment=PATH=/bin:/sbin SYSTEMD_SYSROOT_FSTAB=/etc/initrd-fstab
";

const PARSE_ETC: &str = "[Service]
Environment=SYSTEMD_SYSROOT_FSTAB=/etc/initrd-fstab
";

const SWITCH_ROOT: &str = "[Service]
ExecStart=
ExecStart=systemctl --no-block switch-root /sysroot /usr/lib/systemd/systemd
";

const RUN_MOUNT: &str = "[Unit]
DefaultDependencies=no
Before=initrd-fs.target
[Mount]
What=/run
Where=/sysroot/run
Options=rbind
";

const ACTIVATION: &str = "[Unit]
Description=NixOS Activation
DefaultDependencies=no
AssertPathExists=/etc/initrd-release
RequiresMountsFor=/sysroot/run
After=initrd-switch-root.target
Before=initrd-switch-root.service
[Service]
Type=oneshot
ExecStart=/boot/activate
StandardError=journal+console
";

/// As in the NixOS module with a persistent /etc/machine-id.
const MACHINE_ID_COMMIT: &str = "[Unit]
ConditionFirstBoot=true
";
