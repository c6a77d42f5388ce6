//! Output of the emergency shell, and input there.

use serde_json::{Value, json};

use super::{LAST, explains, manifest, stops, unharmed, write};
use crate::boot::Boot;
use crate::computer::{Computer, On};
use crate::console::Console;

tests![
    the_cause_is_mended,
    an_early_cause_is_mended,
    the_boot_goes_on_by_itself,
    nothing_ends_the_shell,
    a_live_entry_fails,
    a_person_at_the_console
];

const CAUSE: &str = "wrong source        /var/lib/state: /persist/state is a regular file, not a directory; \
                     move it away, or correct the entry";

/// A machine with a file where an entry expects a directory.
fn computer() -> Computer {
    let computer = Computer::new(On::Here);
    computer.drive("persist").visit(|store| write(&store.join("state"), "precious"));
    computer
}

fn entry(phase: &str) -> Value {
    manifest(&json!([{ "directory": "/var/lib/state", "source": "/state", "phase": phase }]))
}

/// A boot in whose emergency shell the file is moved away, and more is done.
fn mends(phase: &str, root: &str, more: &str) -> Boot {
    let commands = format!(
        "mv {root}/persist/state {root}/persist/moved\n{more}\necho 'EMERGENCY mended'\nexec systemctl default\n"
    );
    Boot::new(&entry(phase)).in_emergency(&commands).probe(
        r#"
        fact source /state "$(findmnt --noheadings --output FSROOT /var/lib/state)"
        well
        fact moved precious "$(cat /persist/moved)"
        "#,
    )
}

fn the_cause_is_mended() {
    by_hand("boot", "imp-mount.service");
}

fn an_early_cause_is_mended() {
    by_hand("early", "imp-mount-early.service");
}

fn by_hand(phase: &str, unit: &str) {
    let boot = mends(phase, "/sysroot", "imp-mount || exit\nimp-mount --check || exit");
    explains(computer().boot(&boot), unit, &[CAUSE, "EXIT 1"]).mended();
}

/// Leaving the shell without a new run of imp-mount starts one.
fn the_boot_goes_on_by_itself() {
    let boot = mends("boot", "/sysroot", "");
    explains(computer().boot(&boot), "imp-mount.service", &[CAUSE, "EXIT 1"]).mended();
}

/// initrd-parse-etc.service starts the switch to the running system, which ends an emergency shell, and may already have done
/// so when the early unit fails; so it must not start before. Here the request is repeated without end.
fn nothing_ends_the_shell() {
    let goes_on = "[Service]\nKillMode=none\nExecStart=\nExecStart=sh -c 'while sleep 0.3; do systemctl --no-block start initrd-cleanup; done'\n";
    let boot = Boot::new(&entry("early"))
        .in_initrd(
            "etc/systemd/system/imp-mount-early.service.d/slow.conf",
            "[Service]\nExecStartPre=sleep 0.5\n",
        )
        .in_initrd("etc/systemd/system/initrd-parse-etc.service.d/test.conf", goes_on)
        .in_emergency("sleep 2\n");
    let console = stops(&computer(), &boot, "imp-mount-early.service", &[CAUSE, "EXIT 1"]);
    assert_eq!(console.lines("EMERGENCY begins").count(), 1, "{console:?}");
}

/// On the running system: all other entries are mounted, but no service runs.
fn a_live_entry_fails() {
    let computer = computer();
    let console = unharmed(&computer, || computer.boot(&Boot::new(&entry("live"))).emergency_of_the_system());
    explains(console, "imp-mount-live.service", &[CAUSE, "EXIT 1"]);

    // PID 1 knew from the beginning to leave the mount alone at shutdown, and does not learn this during the shutdown.
    let boot = mends("live", "", "imp-mount || exit").probe(
        r#"fact "left alone at shutdown" "" "$(systemctl show --property=Conflicts --value var-lib-state.mount)"
        "#,
    );
    let console = computer.boot(&boot);
    explains(console, "imp-mount-live.service", &[CAUSE, "EXIT 1"]).mended_on_the_system();
}

/// With the real sulogin and shell.
fn a_person_at_the_console() {
    let computer = computer();
    let boot = Boot::new(&entry("boot"))
        .types("(or press Control-D to continue): ", "")
        .types("# ", "imp-mount --check")
        .types("# ", "systemctl poweroff --force --force");
    let console = unharmed(&computer, || computer.boot(&boot).ended());
    // sulogin(8) discards unread input from before this line, as a message of systemd may.
    let Some((boot, session)) = console.text.split_once("Press Enter for system maintenance") else {
        panic!("there was no shell\n{console:?}");
    };
    assert!(boot.contains(LAST), "the failure is not on the console\n{console:?}");
    let session = Console::unbroken(session);
    for line in [CAUSE, "1 path, 0 ok, 1 problem", "-> correct each wrong source, as its line says"] {
        assert!(session.lines().any(|one| one == line), "no {line:?}\n{console:?}");
    }
    assert!(session.contains("\nPowering off."), "{console:?}");
}
