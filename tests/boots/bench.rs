//! Cost of persistent paths for a boot and a shutdown: imp-mount, mount units, and tmpfiles with mount units.
//!
//! PID 1 makes a unit of every mount. A script of mount(8) calls in place of imp-mount measures the cost of these units alone: the
//! minimum for PID 1.

use std::ffi::OsString;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::boot::Boot;
use crate::computer::{Computer, On, Suite};
use crate::console::Console;
use crate::drive::Drive;
use crate::old_roots::with_units;
use crate::support::{Fs, run};

tests![boots: Asked, removal: Asked];

/// Method by which paths are put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// No persistent paths: the reference.
    Nothing,
    /// A script of mount(8) calls.
    Bare,
    ImpMount,
    /// A mount unit for each path, as made by `fileSystems` with `bind`.
    Units,
    /// Mount units, and systemd-tmpfiles creates sources and mount points, with their owners.
    Tmpfiles,
}

/// Milliseconds of a boot.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// From the first program of the initrd until nothing is left to start.
    boot: f64,
    /// Of the boot, the processor time of PID 1.
    pid1: f64,
    /// From `systemctl poweroff` to the end of the machine.
    off: f64,
    /// Times in the reports of imp-mount's runs.
    report: f64,
}

type Column = (&'static str, fn(&Cost) -> f64);

const COLUMNS: [Column; 3] =
    [("boot", |cost| cost.boot), ("PID 1", |cost| cost.pid1), ("shutdown", |cost| cost.off)];

/// `IMP_MOUNT_BENCH` has the numbers of entries, and the number of measured boots after an unmeasured first one:
/// `10,100,1000 5`.
fn boots() {
    let words = std::env::var("IMP_MOUNT_BENCH").unwrap_or_else(|_| "10,100,1000 5".into());
    let (counts, times) = words.split_once(' ').expect("numbers of entries, and how often");
    let times: usize = times.parse().unwrap();
    println!("milliseconds, best of {times} boots with everything on the store already");
    let mut missed = vec![];
    for count in counts.split(',').map(|count| count.parse().unwrap()) {
        let [nothing, bare, ours, units, tmpfiles] =
            measure([Way::Nothing, Way::Bare, Way::ImpMount, Way::Units, Way::Tmpfiles], count, times);
        println!("  nothing:              {}", row(&nothing, None));
        println!("{count} entries, beyond that");
        println!("  the mounts alone:     {}", row(&bare, Some(&nothing)));
        println!(
            "  imp-mount:            {} (its own report: {:.1})",
            row(&ours, Some(&nothing)),
            ours.report
        );
        for (name, theirs) in [("mount units", &units), ("tmpfiles and units", &tmpfiles)] {
            println!("  {:<21} {}", format!("{name}:"), row(theirs, Some(&nothing)));
            let mut ratios = String::new();
            for (column, value) in COLUMNS {
                // Below a millisecond is noise.
                let beyond = |cost| (value(cost) - value(&nothing)).max(1.0);
                let ratio = beyond(theirs) / beyond(&ours);
                write!(ratios, "  {column} {ratio:.0}").unwrap();
                // The time of PID 1 for mounts in general is left out.
                let least = column == "PID 1" && value(&ours) < value(&bare) + 3.0;
                if count == 100 && column != "shutdown" && ratio < 10.0 && !least {
                    missed.push(format!("{column}: {name} take {ratio:.0} times ours, not 10"));
                }
            }
            println!("    so many times ours:{ratios}");
        }
        if ours.boot - nothing.boot > 500.0 || ours.off - nothing.off > 1000.0 {
            missed.push(format!("{count} entries take more than 500 ms of a boot or 1 s of a shutdown"));
        }
    }
    println!("limits missed: {missed:#?}");
}

/// Boots during which imp-mount-prune removes an old root, and boots without a removal, in turn. `IMP_MOUNT_BENCH` has the number of files
/// in the old root, and of pairs: `1000000 15`.
fn removal() {
    let words = std::env::var("IMP_MOUNT_BENCH").unwrap_or_else(|_| "1000000 15".into());
    let (files, pairs) = words.split_once(' ').expect("number of files, and how often");
    let (files, pairs): (u64, usize) = (files.parse().unwrap(), pairs.parse().unwrap());
    let entries: Vec<Value> =
        (0..100).map(|number| json!({ "directory": format!("/srv/data{number}") })).collect();
    let root = json!({ "on": "/persist" });
    let stores = json!([{ "path": "/persist" }]);
    let manifest = json!({ "version": 1, "root": root, "stores": stores, "entries": entries });
    let alone = with_units(Boot::new(&manifest).without("/").with_impctl()).probe(
        r#"
        read -r up _ < /proc/uptime
        read -r start _ < /run/boot/start
        tell boot echo "$start $up"
        fact state running "$state"
        fact mounts 100 "$(grep -c /srv/data /proc/self/mountinfo)"
        "#,
    );
    // From the first moment of the running system, in place of some minutes later.
    let beside = alone
        .clone()
        .in_etc("systemd/system/imp-mount-prune.service.d/early.conf", EARLY)
        .in_etc("systemd/system/sysinit.target.d/prune.conf", "[Unit]\nWants=imp-mount-prune.service\n")
        .probe(
            r#"
            fact removal active "$(systemctl is-active imp-mount-prune.service)"
            holds "not over" test -d /persist/.imp-mount/roots/removed-1000000
            "#,
        );
    let words = format!("-N {}", files + files / 50 + 50_000);
    let computer = Computer::with(
        On::Here,
        Suite::Stable,
        vec![Drive::formatted("persist", Fs::Ext4, 1024 + files / 200, &words)],
    );
    computer.boot(&alone).passed();
    computer.drive("persist").visit(|store| {
        let place = store.join(".imp-mount/roots/removed-1000000/root");
        let words: [OsString; 5] =
            ["sh".into(), "-c".into(), FILL.into(), files.to_string().into(), place.into()];
        run(&words).ok();
    });
    let time = |boot: &Boot| {
        let console = computer.boot(boot).passed();
        let told: Vec<f64> =
            console.told("boot")[0].split(' ').map(|number| number.parse().unwrap()).collect();
        (told[1] - told[0]) * 1e3
    };
    let mut all: Vec<[f64; 3]> = (0..pairs)
        .map(|number| {
            // The first one alternates, too.
            let early = (number % 2 == 1).then(|| time(&beside));
            let alone = time(&alone);
            let beside = early.unwrap_or_else(|| time(&beside));
            println!("alone {alone:.0} ms, beside a removal {beside:.0} ms");
            [alone, beside, beside / alone]
        })
        .collect();
    let [alone, beside, ratio] = [0, 1, 2].map(|column| {
        all.sort_unstable_by(|a, b| a[column].total_cmp(&b[column]));
        all[pairs / 2][column]
    });
    println!(
        "medians of {pairs} pairs: alone {alone:.0} ms, beside a removal {beside:.0} ms, ratio {ratio:.3}"
    );
    println!("limits missed: {}", usize::from(ratio > 1.05));
}

const EARLY: &str = "[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
[Service]
Type=exec
";

/// Files with a line each in directories of a thousand.
const FILL: &str = "mkdir -p $1; cd $1
for folder in $(seq $(($0 / 1000))); do mkdir $folder; seq 1000 | split -l 1 -a 3 - $folder/; done";

/// Boots each machine so often in turn, and once before on the empty store; returns the best. In the slower boots PID 1 did not
/// read mounts for up to a second: the rate limit after a burst of mounts.
fn measure<const WAYS: usize>(ways: [Way; WAYS], count: usize, times: usize) -> [Cost; WAYS] {
    let machines = ways.map(|way| {
        let label = format!("persist-{way:?}-{count}");
        let drive = Drive::formatted(&label, Fs::Ext4, 128, "-L persist -N 8192");
        let drive = Drive { label: "persist".into(), ..drive };
        let computer = Computer::with(On::Here, Suite::Stable, vec![drive]);
        let mounts = if way == Way::Nothing { 0 } else { count };
        let boot = describe(way, count).probe(&format!(
            r#"
            read -r up _ < /proc/uptime
            read -r start _ < /run/boot/start
            tell boot echo "$start $up"
            tell pid1 cat /proc/1/schedstat
            [[ ! -e /run/imp-mount/report.json ]] || tell report cat /run/imp-mount/report.json
            fact state running "$state"
            fact mounts {mounts} "$(grep -c /srv/data /proc/self/mountinfo)"
            "#
        ));
        computer.boot(&boot).passed();
        (computer, boot)
    });
    let worst = Cost { boot: f64::MAX, pid1: f64::MAX, off: f64::MAX, report: f64::MAX };
    let mut best = [worst; WAYS];
    for _ in 0..times {
        for (best, (computer, boot)) in best.iter_mut().zip(&machines) {
            let cost = read(&computer.boot(boot).passed());
            *best = Cost {
                boot: best.boot.min(cost.boot),
                pid1: best.pid1.min(cost.pid1),
                off: best.off.min(cost.off),
                report: best.report.min(cost.report),
            };
        }
    }
    best
}

/// Reads the probe's output.
fn read(console: &Console) -> Cost {
    let numbers = |name| -> Vec<f64> {
        console.told(name)[0].split(' ').map(|number| number.parse().unwrap()).collect()
    };
    let (boot, pid1) = (numbers("boot"), numbers("pid1"));
    let report = match console.told("report").concat() {
        // Without imp-mount there is none.
        none if none.is_empty() => Value::Null,
        report => report.parse().expect("the report is JSON"),
    };
    let runs = report["runs"].as_array().into_iter().flatten();
    let steps = runs.flat_map(|run| run["steps"].as_array().into_iter().flatten());
    Cost {
        boot: (boot[1] - boot[0]) * 1e3,
        pid1: pid1[0] / 1e6,
        off: console.since("PROBE ends").as_secs_f64() * 1e3,
        report: steps.map(|step| step[1].as_f64().unwrap()).sum::<f64>() / 1e3,
    }
}

fn describe(way: Way, count: usize) -> Boot {
    let paths = (0..count).map(|number| format!("/srv/data{number}"));
    if way == Way::ImpMount {
        let entries: Vec<Value> = paths.map(|path| json!({ "directory": path })).collect();
        let stores = json!([{ "path": "/persist" }]);
        return Boot::new(&json!({ "version": 1, "stores": stores, "entries": entries })).late();
    }
    let mut boot = Boot::ordinary();
    if way == Way::Bare {
        let mut script = String::new();
        for path in paths {
            let (source, target) = (format!("/sysroot/persist{path}"), format!("/sysroot{path}"));
            writeln!(script, "mkdir -p {source} {target}").unwrap();
            writeln!(script, "mount --bind {source} {target}").unwrap();
        }
        let unit = "[Unit]\nDefaultDependencies=no\nAfter=initrd-switch-root.target\nBefore=initrd-switch-root.service\n\
                    [Service]\nType=oneshot\nExecStart=sh /etc/bare\n";
        return boot
            .in_initrd("etc/bare", &script)
            .in_initrd("etc/systemd/system/bare.service", unit)
            .in_initrd(
                "etc/systemd/system/initrd-switch-root.service.d/bare.conf",
                "[Unit]\nRequires=bare.service\n",
            );
    }
    let (mut tmpfiles, mut wanted) = (String::new(), String::from("[Unit]\n"));
    for (number, path) in paths.enumerate() {
        if way == Way::Nothing {
            continue;
        }
        let name = format!("sysroot-srv-data{number}.mount");
        let after =
            if way == Way::Tmpfiles { "Requires=tmpfiles.service\nAfter=tmpfiles.service\n" } else { "" };
        boot = boot.in_initrd(
            &format!("etc/systemd/system/{name}"),
            format!(
                "[Unit]\nDefaultDependencies=no\nBefore=initrd-fs.target umount.target\nConflicts=umount.target\n{after}\
                 [Mount]\nWhat=/sysroot/persist{path}\nWhere=/sysroot{path}\nOptions=bind,x-initrd.mount\n"
            ),
        );
        writeln!(wanted, "Requires={name}\nAfter={name}").unwrap();
        writeln!(tmpfiles, "d /sysroot/persist{path} 0755 root root\nd /sysroot{path} 0755 root root")
            .unwrap();
    }
    if way == Way::Tmpfiles {
        boot = boot.in_initrd("etc/boot-tmpfiles.conf", &tmpfiles).in_initrd(
            "etc/systemd/system/tmpfiles.service",
            "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/sysroot/persist\n[Service]\nType=oneshot\n\
             RemainAfterExit=yes\nExecStart=systemd-tmpfiles --create /etc/boot-tmpfiles.conf\n",
        );
    }
    boot.in_initrd("etc/systemd/system/initrd-fs.target.d/data.conf", &wanted)
}

fn row(cost: &Cost, nothing: Option<&Cost>) -> String {
    let zero = Cost::default();
    let beyond = |value: fn(&Cost) -> f64| value(cost) - value(nothing.unwrap_or(&zero));
    COLUMNS.map(|(name, value)| format!("{name} {:7.1}", beyond(value))).join("  ")
}
