//! What goes wrong ends in a shell that explains itself, with nothing lost.

use serde_json::json;

use crate::boot::Boot;
use crate::computer::{Computer, On};

tests![required_entry_of_the_wrong_type];

fn required_entry_of_the_wrong_type() {
    let computer = Computer::new(On::Here);
    computer.drive("persist").visit(|store| std::fs::write(store.join("state"), "precious").unwrap());
    let manifest = json!({
        "version": 1,
        "stores": [{ "path": "/persist" }],
        "entries": [{ "directory": "/var/lib/state", "source": "/state" }],
    });
    let console = computer.boot(&Boot::new(&manifest)).emergency().says(&["FAILED UNIT imp-mount.service"]);
    let last = console.lines("JOURNAL ").last().unwrap();
    assert!(last.contains("`imp-mount --check` says"), "{console:?}");
    assert!(console.lines("CHECK ").any(|line| line.contains("/var/lib/state")), "{console:?}");
    computer.drive("persist").visit(|store| {
        assert_eq!(std::fs::read_to_string(store.join("state")).unwrap(), "precious");
    });
}
