//! The systemd generator (systemd.generator(7)): takes the file systems of unneeded stores out of the boot's
//! requirements.
//!
//! The boot requires every file system in the fstab(5) of the initrd and of the system: a dead disk stops the boot
//! before imp-mount runs. Without arguments of imp-mount on the kernel command line these units stay unchanged.
//!
//! | the store | its mount unit |
//! |---|---|
//! | left out by `imp-mount.skip=` | replaced by a unit without effect, which counts as started |
//! | not needed because of another argument | no longer required, with a timeout of 10 seconds |
//!
//! For stores mounted by imp-mount from their device, the early unit waits for the device and its fsck.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::manifest::device::device_path;
use crate::manifest::{AbsPath, Manifest, Phase, Store};
use crate::plan::cmdline::KernelArgs;
use crate::plan::{Need, Plan};
use crate::sys::fstab::Line;
use crate::text::escape;
use crate::text::problem::{Problem, Result, describe_io};

/// The name by which systemd starts the program as its generator.
pub const NAME: &str = "imp-mount-generator";
/// Longest wait of a boot for a store without need.
const PATIENCE: &str = "10s";
/// Without these no system is found. Their mounts are required in spite of kernel arguments.
const ESSENTIAL: [&str; 6] = ["/etc", "/nix", "/nix/store", "/usr", "/var", "/var/lib"];

/// Inputs and output directories of the generator.
#[derive(Debug)]
pub struct Generator<'g> {
    /// The manifest.
    pub manifest: &'g Manifest,
    /// The kernel command line.
    pub words: &'g KernelArgs,
    /// True in the initrd, where the system's root is at /sysroot.
    pub in_initrd: bool,
    /// The lines of fstab(5).
    pub fstab: &'g [Line],
    /// Directory for units of normal priority (systemd.generator(7)).
    pub normal: &'g Path,
    /// Directory for units with priority over all others.
    pub early: &'g Path,
}

impl Generator<'_> {
    /// Writes the needed units.
    pub fn run(&self) -> Result<()> {
        let plan = Plan::new(self.manifest, self.words, Phase::Live);
        let mut devices = Vec::new();
        for (store, need) in plan.stores() {
            match need {
                Need::LeftOut => {
                    self.leave_out(&store.path)?;
                    if let Some(above) = self.above(store) {
                        let is_named = self.words.skip.iter().any(|path| above.is_in(path));
                        if is_named && !is_essential(&above) {
                            self.leave_out(&above)?;
                        } else {
                            self.make_optional_above(&plan, &above)?;
                        }
                    }
                }
                Need::Spared(_) => {
                    self.make_optional(&store.path)?;
                    if let Some(above) = self.above(store) {
                        self.make_optional_above(&plan, &above)?;
                    }
                }
                Need::Needed | Need::Later => devices.extend(store.device.as_deref().map(device_path)),
            }
        }
        devices.retain(|device| device.starts_with("/dev/"));
        if self.in_initrd && !devices.is_empty() {
            self.wait_for(&devices)?;
        }
        Ok(())
    }

    /// The mount point above a store in a directory of a file system; none for the root.
    fn above(&self, store: &Store) -> Option<AbsPath> {
        let points = self.fstab.iter().filter_map(|line| {
            let point = AbsPath::parse(&line.point).ok()?;
            let below = AbsPath::parse("/sysroot").ok().and_then(|sysroot| point.below(&sysroot));
            Some(below.unwrap_or(point))
        });
        let nearest =
            points.filter(|point| store.path.is_in(point)).max_by_key(|point| point.as_str().len())?;
        (!nearest.is_root() && nearest != store.path).then_some(nearest)
    }

    /// Spares a file system with a store in a directory, unless the boot needs the file system otherwise.
    fn make_optional_above(&self, plan: &Plan<'_>, above: &AbsPath) -> Result<()> {
        let is_needed = plan.stores().any(|(store, need)| !need.is_by_argument() && store.path.is_in(above));
        if is_needed || is_essential(above) { Ok(()) } else { self.make_optional(above) }
    }

    /// A path of the system as seen from here.
    fn place(&self, path: &AbsPath) -> String {
        format!("{}{}", if self.in_initrd { "/sysroot" } else { "" }, path.as_str())
    }

    /// The target that requires the mounts of fstab(5).
    fn target(&self) -> &'static str {
        if self.in_initrd { "initrd-fs.target" } else { "local-fs.target" }
    }

    /// Replaces the mount unit of a path by one without effect.
    fn leave_out(&self, path: &AbsPath) -> Result<()> {
        let place = self.place(path).replace('%', "%%");
        let text = format!(
            "# From {NAME}, for imp-mount.skip= on the kernel command line.\n\
             [Unit]\n\
             Description=Left Out: {place}\n\
             Documentation=man:imp-mount(8)\n\
             DefaultDependencies=no\n\
             # Never true. What requires this unit is started without it.\n\
             ConditionPathExists=!/\n\
             [Mount]\n\
             What=imp-mount\n\
             Where={place}\n\
             Type=tmpfs\n\
             Options=ro\n"
        );
        write(self.early, &unit(&self.place(path), "mount"), &text)
    }

    /// Lets the boot go on without the mount at a path.
    fn make_optional(&self, path: &AbsPath) -> Result<()> {
        let (name, target) = (unit(&self.place(path), "mount"), self.target());
        link(self.early, &format!("{target}.requires/{name}"), "/dev/null")?;
        link(self.normal, &format!("{target}.wants/{name}"), &format!("../{name}"))?;
        let text = format!(
            "# From {NAME}: nothing of it is needed, as the kernel command line has it.\n\
             [Unit]\nJobTimeoutSec={PATIENCE}\n"
        );
        write(self.normal, &format!("{name}.d/50-imp-mount.conf"), &text)
    }

    /// Lets the early unit come after devices, and the checks of their file systems.
    fn wait_for(&self, devices: &[String]) -> Result<()> {
        let mut text = format!("# From {NAME}: the stores that imp-mount mounts itself.\n[Unit]\n");
        for device in devices {
            let check = format!("systemd-fsck@{}.service", unit_escape(device));
            let device = unit(device, "device");
            // Writing to a String cannot fail.
            let _ = write!(text, "Wants={device} {check}\nAfter={device} {check}\n");
        }
        write(self.normal, "imp-mount-early.service.d/50-imp-mount-stores.conf", &text)
    }
}

fn is_essential(path: &AbsPath) -> bool {
    ESSENTIAL.contains(&path.as_str())
}

/// The name of the unit for a path.
fn unit(path: &str, kind: &str) -> String {
    format!("{}.{kind}", unit_escape(path))
}

/// A path in the form of systemd-escape(1) with --path.
fn unit_escape(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut text = String::with_capacity(path.len());
    for (index, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => text.push('-'),
            b'.' if index == 0 => text.push_str("\\x2e"),
            b':' | b'_' | b'.' => text.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let written = make_folder(&path).and_then(|()| fs::write(&path, text));
    written.map_err(|error| {
        Problem::new(format!("cannot write {}: {}", escape::path(&path), describe_io(&error)))
    })
}

fn link(folder: &Path, name: &str, to: &str) -> Result<()> {
    let path = folder.join(name);
    let made = make_folder(&path).and_then(|()| match symlink(to, &path) {
        // A store on another store's file system.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    });
    made.map_err(|error| {
        Problem::new(format!("cannot make {}: {}", escape::path(&path), describe_io(&error)))
    })
}

fn make_folder(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), fs::create_dir_all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_of_units_are_those_of_systemd_escape() {
        for (path, name) in [
            ("/", "-"),
            ("/sysroot/srv/media", "sysroot-srv-media"),
            ("/dev/disk/by-label/my\\x20disk", "dev-disk-by\\x2dlabel-my\\x5cx20disk"),
            ("/.snapshots//a_b:c.d/", "\\x2esnapshots-a_b:c.d"),
            ("/é", "\\xc3\\xa9"),
        ] {
            assert_eq!(unit_escape(path), name, "{path}");
        }
    }

    /// Every file of the generator, with its text or the target of the link.
    fn written(
        stores: &[(&str, Option<&str>)],
        entries: &[(&str, usize, Phase)],
        line: &str,
        points: &[&str],
        in_initrd: bool,
    ) -> Vec<String> {
        let path = |text: &str| AbsPath::parse(text).unwrap();
        let manifest = Manifest {
            stores: stores
                .iter()
                .map(|(at, device)| Store {
                    path: path(at),
                    required: true,
                    device: device.map(str::to_owned),
                    fstype: None,
                    options: Vec::new(),
                })
                .collect(),
            entries: entries
                .iter()
                .map(|(target, store, phase)| crate::manifest::Entry {
                    target: path(target),
                    kind: crate::manifest::Kind::Directory,
                    store: u16::try_from(*store).unwrap(),
                    source: None,
                    owner: crate::manifest::Owner::default(),
                    parents: None,
                    method: crate::manifest::Method::Bind,
                    missing: crate::manifest::Missing::Link,
                    options: crate::manifest::BindOptions::DEFAULT,
                    required: true,
                    enforce: false,
                    hidden: false,
                    trash: false,
                    phase: *phase,
                })
                .collect(),
            ..Manifest::default()
        };
        let words = KernelArgs::parse(line);
        let fstab: Vec<_> =
            points.iter().map(|point| Line { device: "LABEL=x".into(), point: (*point).into() }).collect();
        let folder = tempfile::tempdir().unwrap();
        let (normal, early) = (folder.path().join("normal"), folder.path().join("early"));
        let generator = Generator {
            manifest: &manifest,
            words: &words,
            in_initrd,
            fstab: &fstab,
            normal: &normal,
            early: &early,
        };
        generator.run().unwrap();
        let mut found = Vec::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(at).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
                    let to = fs::read_link(entry.path()).map_or_else(
                        |_| fs::read_to_string(entry.path()).unwrap(),
                        |to| format!("-> {}", to.to_str().unwrap()),
                    );
                    found.push(format!("{name} {to}"));
                }
            }
        }
        found.sort();
        found
    }

    const STORES: [(&str, Option<&str>); 3] =
        [("/persist", None), ("/data/state", None), ("/own", Some("LABEL=own"))];
    const ENTRIES: [(&str, usize, Phase); 4] = [
        ("/nix", 0, Phase::Early),
        ("/srv", 0, Phase::Boot),
        ("/films", 1, Phase::Live),
        ("/var", 2, Phase::Boot),
    ];

    fn names(line: &str, points: &[&str], in_initrd: bool) -> Vec<String> {
        let all = written(&STORES, &ENTRIES, line, points, in_initrd);
        let name = |text: String| text.split_once([' ', '\n']).unwrap().0.to_owned();
        let mut all: Vec<_> = all.into_iter().map(name).collect();
        all.retain(|name| !name.contains("imp-mount-early"));
        all
    }

    #[test]
    fn without_a_word_only_devices_are_waited_for() {
        assert_eq!(names("quiet imp-mount.check imp-mount.skip=/srv", &["/persist", "/data"], true), [""; 0]);
        let all = written(&STORES, &ENTRIES, "", &[], true);
        let [early] = &all[..] else { panic!("{all:?}") };
        assert!(early.starts_with("normal/imp-mount-early.service.d/50-imp-mount-stores.conf "), "{early}");
        for line in [
            "Wants=dev-disk-by\\x2dlabel-own.device systemd-fsck@dev-disk-by\\x2dlabel-own.service\n",
            "After=dev-disk-by\\x2dlabel-own.device systemd-fsck@dev-disk-by\\x2dlabel-own.service\n",
        ] {
            assert!(early.contains(line), "{early}");
        }
        assert_eq!(written(&STORES, &ENTRIES, "", &[], false), [""; 0]);
        for word in ["imp-mount.skip=/own", "imp-mount.skip=/var", "imp-mount=off"] {
            let all = written(&STORES, &ENTRIES, word, &[], true);
            assert!(!all.iter().any(|text| text.contains("imp-mount-early")), "{word}: {all:?}");
        }
    }

    #[test]
    fn a_store_that_is_named_is_left_out() {
        for (in_initrd, name) in [(true, "sysroot-persist"), (false, "persist")] {
            assert_eq!(
                names("imp-mount.skip=/persist", &["/persist", "/data"], in_initrd),
                [format!("early/{name}.mount")]
            );
        }
        // The disk of the directory, if skipped too, and not the disk of the system.
        let both = ["early/data-state.mount", "early/data.mount"];
        assert_eq!(names("imp-mount.skip=/data", &["/data"], false), both);
        assert_eq!(names("imp-mount.skip=/data", &["/sysroot/data"], false), both);
        assert_eq!(names("imp-mount.skip=/data", &["/data", "/data/state"], false), both[..1]);
        let alone = names("imp-mount.skip=/data/state", &["/data"], false);
        assert!(
            alone.contains(&both[0].to_owned())
                && alone.contains(&"early/local-fs.target.requires/data.mount".to_owned()),
            "{alone:?}"
        );
    }

    #[test]
    fn a_store_that_is_not_needed_is_spared() {
        let spared = |target: &str, unit: &str| {
            let mut paths = [
                format!("early/{target}.requires/{unit}"),
                format!("normal/{target}.wants/{unit}"),
                format!("normal/{unit}.d/50-imp-mount.conf"),
            ];
            paths.sort();
            paths
        };
        for line in ["imp-mount.skip=/films", "imp-mount.skip=/films,/nowhere"] {
            let mut expected = [
                spared("initrd-fs.target", "sysroot-data-state.mount"),
                spared("initrd-fs.target", "sysroot-data.mount"),
            ]
            .concat();
            expected.sort();
            assert_eq!(names(line, &["/data"], true), expected);
            assert_eq!(names(line, &["/data/state"], false), spared("local-fs.target", "data-state.mount"));
            // The root, and file systems essential to every system.
            assert_eq!(names(line, &["/"], false), spared("local-fs.target", "data-state.mount"));
        }
        // With this argument the store of an entry of the phase early is needed.
        let off = names("imp-mount=off", &["/data", "/persist"], true);
        assert!(!off.iter().any(|name| name.contains("persist")) && off.len() == 9, "{off:?}");
    }
}
