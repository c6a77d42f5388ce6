//! The units under test, exactly as they are shipped, and those of the file systems around them.

use std::fs;
use std::path::Path;

use crate::boot::Line;

/// A unit, and the folders with its links: `initrd-fs.target.requires`.
pub struct Unit {
    pub name: String,
    pub text: String,
    pub pulled_in: Vec<String>,
}

/// The units of the initrd, with the order that the installer has to add: after the stores, and before other mounts.
pub fn initrd(stores: &[String], others: &[String]) -> Vec<Unit> {
    let after = stores.iter().map(|store| format!("WantsMountsFor=\"/sysroot{store}\"\n"));
    let before = others.iter().map(|at| format!("Before={}\n", of_mount("/sysroot", at).0));
    let order: String = ["[Unit]\n".into()].into_iter().chain(after).chain(before).collect();
    [
        ("imp-mount.service", include_str!("../../initrd/imp-mount.service"), ""),
        ("imp-mount-early.service", include_str!("../../initrd/imp-mount-early.service"), order.as_str()),
    ]
    .map(|(name, text, order)| {
        let by = text.lines().find_map(|line| line.strip_prefix("RequiredBy=")).expect("it is installed");
        Unit {
            name: name.into(),
            text: format!("{text}\n{order}"),
            pulled_in: by.split(' ').map(|by| format!("{by}.requires")).collect(),
        }
    })
    .into()
}

/// The running system's units, as in the NixOS module: with `live` if there are entries of this phase.
pub fn system(stores: &[String], live: bool) -> Vec<Unit> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nixos/golden/units/system");
    let stores = format!("\"{}\"", stores.join("\" \""));
    let files = fs::read_dir(golden).unwrap().map(|file| file.unwrap());
    files
        .filter_map(|file| {
            let text = fs::read_to_string(file.path()).unwrap();
            let text = text.strip_prefix("# late-disk\n")?;
            let mut name = file.file_name().into_string().unwrap();
            // PID 1 makes mount units itself, and a service without its section is a drop-in of systemd's own.
            let is_drop_in = match name.rsplit_once('.') {
                Some((_, "mount")) => true,
                Some((_, "service")) => !text.contains("\n[Service]"),
                _ => false,
            };
            if is_drop_in {
                name += ".d/overrides.conf";
            }
            let mut unit = Unit { name, text: String::new(), pulled_in: vec![] };
            for line in text.lines() {
                if let Some(by) = line.strip_prefix("wanted by ") {
                    unit.pulled_in.extend(by.split(' ').map(|by| format!("{by}.wants")));
                } else if line.starts_with("WantsMountsFor=") {
                    unit.text.extend(["WantsMountsFor=", &stores, "\n"]);
                } else {
                    unit.text += &line.replace("/package/bin/imp-mount", "/run/boot/bin/imp-mount");
                    unit.text.push('\n');
                }
            }
            Some(unit)
        })
        .filter(|unit| live || unit.name != "imp-mount-live.service")
        .collect()
}

/// The name of the mount unit of a path below a root, and the initrd target after it.
pub fn of_mount(root: &str, at: &str) -> (String, &'static str) {
    let path = format!("{root}{at}");
    let name = format!("{}.mount", path.trim_matches('/').replace('/', "-"));
    (name, if at == "/" { "initrd-root-fs.target" } else { "initrd-fs.target" })
}

/// A mount unit, as systemd-fstab-generator makes it.
pub fn mount(line: &Line, root: &str, before: &str) -> String {
    let what = line.what.strip_prefix("LABEL=").map(|label| format!("/dev/disk/by-label/{label}"));
    let at = if line.at == "/" { root.to_owned() } else { format!("{root}{}", line.at) };
    let needs = line.needs.map(|unit| format!("Requires={unit}\nAfter={unit}\n")).unwrap_or_default();
    format!(
        "[Unit]\nDefaultDependencies=no\nAfter=local-fs-pre.target\nBefore={before} umount.target\nConflicts=umount.target\n{needs}\
         [Mount]\nWhat={}\nWhere={at}\nType={}\nOptions=x-initrd.mount,{}\n",
        what.as_ref().unwrap_or(&line.what),
        line.fstype,
        line.options,
    )
}
