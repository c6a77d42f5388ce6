//! Files read by a boot besides the manifest: passwd and group, the id maps, and the kernel command line.

#![no_main]

use imp_mount::plan::cmdline::KernelArgs;
use imp_mount::manifest::AbsPath;
use imp_mount::ids::{idmap, passwd};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = passwd::parse(data) {
        assert!(table.keys().all(|name| !name.is_empty() && !name.contains([':', '\n', '\0'])));
        let lines: String = table.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
        assert_eq!(passwd::parse(lines.as_bytes()), Ok(table));
    }
    if let Ok(table) = idmap::parse(data) {
        let text = serde_json::to_vec(&table).expect("names and numbers are JSON");
        assert_eq!(idmap::parse(&text), Ok(table));
    }
    let words = KernelArgs::parse(&String::from_utf8_lossy(data));
    for path in &words.skip {
        assert_eq!(AbsPath::parse(path.as_str()).as_ref(), Ok(path));
    }
    assert!(words.unknown.iter().all(|word| !word.contains(char::is_control)));
});
