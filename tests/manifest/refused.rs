//! All refused manifests, with their messages.

use imp_mount::manifest::{AbsPath, BindOptions, Kind, Manifest, Missing, OldRoots, text, wire};
use imp_mount::text::problem::Problem;

use crate::manifest;

/// A refused manifest.
pub struct Case {
    /// Its text.
    pub json: &'static str,
    /// Its messages, line by line.
    pub problems: Vec<&'static str>,
    /// True if the schema alone cannot find the error.
    pub beyond_schema: bool,
}

/// The manifests in `refused.txt`.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("refused.txt").lines() {
        if let Some(problem) = line.strip_prefix("    ") {
            cases.last_mut().unwrap().problems.push(problem);
        } else if !line.is_empty() && !line.starts_with('#') {
            let json = line.strip_prefix("> ").unwrap_or(line);
            cases.push(Case { json, problems: Vec::new(), beyond_schema: json != line });
        }
    }
    cases
}

#[test]
fn refused_manifests_have_these_messages() {
    for case in cases() {
        let problems = text::parse(case.json).unwrap_err();
        let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems, case.problems, "{}", case.json);
    }
}

/// Encodings of other systems' editors.
#[test]
fn encodings_other_than_plain_utf8_are_named_with_a_remedy() {
    let marked = b"\xef\xbb\xbf{ \"version\": 1 }";
    let problems = text::parse(text::utf8(marked).unwrap()).unwrap_err();
    assert_eq!(
        problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
        [
            "line 1, column 1: this is no JSON: it begins with a byte order mark (the bytes EF BB BF); save it as UTF-8 \
          without one, or remove it: `sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`"
        ],
    );
    assert!(text::is_text(marked));
    let problem = wire::decode(marked).unwrap_err();
    assert_eq!(problem.to_string(), "this is the text form; compile it with `impctl compile`");
    let wide = |bytes: &[u8], encoding: &str| {
        assert!(text::is_text(bytes));
        assert_eq!(
            text::utf8(bytes).unwrap_err().to_string(),
            format!(
                "line 1: this is no JSON: it is {encoding} text; convert it with `iconv -f {encoding} -t UTF-8`"
            ),
        );
    };
    let units = |mark: &str, turn: fn(u16) -> [u8; 2]| {
        format!("{mark}{{ \"version\": 1 }}").encode_utf16().flat_map(turn).collect::<Vec<_>>()
    };
    wide(&units("\u{feff}", u16::to_le_bytes), "UTF-16");
    wide(&units("\u{feff}", u16::to_be_bytes), "UTF-16");
    wide(&units("", u16::to_le_bytes), "UTF-16LE");
    wide(&units("", u16::to_be_bytes), "UTF-16BE");
    wide(b"\xff\xfe\0\0{\0\0\0", "UTF-32");
    let latin = b"{\n\"version\": \"\xe9\"}";
    assert!(text::is_text(latin));
    assert_eq!(
        text::utf8(latin).unwrap_err().to_string(),
        "line 2: this is no JSON: it is no UTF-8 text; convert it with `iconv -f ENCODING -t UTF-8`, where ENCODING is \
         LATIN1 or another one"
    );
}

#[test]
fn a_file_is_text_or_compiled() {
    let compiled = wire::encode(&text::parse("{ \"version\": 1 }").unwrap()).unwrap();
    let cut = |length: usize| compiled[..length].to_vec();
    let damaged = [&b"\0"[..], &compiled[1..]].concat();
    for bytes in [cut(0), cut(3), cut(8), compiled.clone(), damaged, b"\x7fELF\0".to_vec()] {
        assert!(!text::is_text(&bytes), "{bytes:?}");
    }
    for bytes in ["// a comment", "[1]", "hello", " {"] {
        assert!(text::is_text(bytes.as_bytes()), "{bytes}");
    }
}

#[test]
fn too_many_stores_are_refused() {
    let stores: Vec<_> = (0..65536).map(|number| format!(r#"{{ "path": "/s{number}" }}"#)).collect();
    let problems =
        text::parse(&format!(r#"{{ "version": 1, "stores": [{}] }}"#, stores.join(","))).unwrap_err();
    assert_eq!(problems[0].to_string(), "65536 stores are too many; 65535 is the limit");
}

/// Makes a manifest impossible as a text.
type Break = fn(&mut Manifest);

#[test]
fn the_binary_form_refuses_values_without_a_text_form() {
    let breaks: [(Break, &str); 11] = [
        (
            |it| it.entries.reverse(),
            "it is not in path order, so it was not compiled; write it with `impctl compile`",
        ),
        (
            |it| it.entries[0].store = 7,
            "entries[0] /a: its store has the number 7, and there is none; compile it again",
        ),
        (
            |it| it.entries[0].options = BindOptions::NOATIME.and(BindOptions::STRICTATIME),
            "entries[0] /a: it has mount options unknown to this version; compile it again",
        ),
        (
            |it| it.entries[0].owner.mode = Some(0o10000),
            "entries[0] /a: `mode`: 10000 is above 07777, the highest mode",
        ),
        (
            |it| it.root.as_mut().unwrap().mode = 0o10000,
            "root: `mode`: 10000 is above 07777, the highest mode",
        ),
        (
            |it| it.entries[0].kind = Kind::Glob,
            "entries[0] /a: its last component is no pattern; compile it again",
        ),
        (
            |it| it.entries[0].missing = Missing::Skip,
            "entries[0] /a: `missing` is for files only; leave it out",
        ),
        (
            |it| it.root.as_mut().unwrap().convert = Some(it.entries[0].target.clone()),
            "root: `convert`: /a is no store; add it to `stores`: what is mounted as the root becomes that store",
        ),
        (
            |it| it.old_roots = Some(OldRoots::new(7)),
            "old_roots: there is no store to hold them; name one in `stores`",
        ),
        (
            |it| it.old_roots = Some(OldRoots { boots: 0, ..OldRoots::new(0) }),
            "old_roots: a limit of 0 keeps nothing; leave `old_roots` out",
        ),
        (|it| it.stores.clear(), "there are entries, but no store to hold them; name one in `stores`"),
    ];
    let whole = manifest(r#""root": {}, "entries": [{ "directory": "/a" }, { "directory": "/b" }]"#);
    for (damage, message) in breaks {
        let mut manifest = whole.clone();
        damage(&mut manifest);
        assert_eq!(wire::encode(&manifest).unwrap_err().to_string(), message);
        assert_eq!(wire::decode(&crate::wire::sealed(&manifest)).unwrap_err().to_string(), message);
    }
    assert!(wire::decode(&crate::wire::sealed(&whole)).is_ok());
}

/// A path of so many bytes, in components of at most 100.
pub fn long(bytes: usize) -> String {
    let mut path = String::new();
    while path.len() < bytes {
        // A component has at least one byte.
        let more = if bytes - path.len() == 102 { 100 } else { (bytes - path.len()).min(101) };
        path.push('/');
        path.push_str(&"x".repeat(more - 1));
    }
    path
}

#[test]
fn paths_too_long_for_the_kernel_are_refused() {
    let with = |entry: &str| {
        text::parse(&format!(
            r#"{{ "version": 1, "stores": [{{ "path": "/persist" }}], "entries": [{entry}] }}"#
        ))
    };
    let refused = |entry: &str, words: &str| {
        let problems = with(entry).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().ends_with(words), "{problems:?}");
    };
    let more = "on the store it has a path of 4096 bytes, and 4095 are the most that the kernel takes; shorten it, or give it a shorter `source`";
    for keys in
        [r#""directory""#, r#""file""#, r#""method": "symlink", "directory""#, r#""method": "copy", "file""#]
    {
        assert!(with(&format!(r#"{{ {keys}: "{}" }}"#, long(4087))).is_ok(), "{keys}");
        refused(&format!(r#"{{ {keys}: "{}" }}"#, long(4088)), more);
        // The target may be longer than the source.
        assert!(with(&format!(r#"{{ {keys}: "{}", "source": "/s" }}"#, long(4095))).is_ok(), "{keys}");
        refused(&format!(r#"{{ {keys}: "/s", "source": "{}" }}"#, long(4088)), more);
        refused(&format!(r#"{{ {keys}: "{}" }}"#, long(4096)), "the path is longer than 4095 bytes");
        refused(&format!(r#"{{ {keys}: "/{}" }}"#, "x".repeat(256)), "is longer than 255 bytes");
    }
    // Room for any file name.
    assert!(with(&format!(r#"{{ "file": "{}/*" }}"#, long(3831))).is_ok());
    refused(
        &format!(r#"{{ "file": "{}/*" }}"#, long(3832)),
        "on the store a match can have a path of 4096 bytes, and 4095 are the most that the kernel takes; shorten the directory that holds the files",
    );
    assert!(with(&format!(r#"{{ "directory": "{}" }}"#, "/x".repeat(256))).is_ok());
    refused(
        &format!(r#"{{ "directory": "{}" }}"#, "/x".repeat(257)),
        "goes down 257 directories, and 256 is the limit; shorten it",
    );

    let store = |keys: &str| {
        text::parse(&format!(r#"{{ "version": 1, "stores": [{{ "path": "/persist", {keys} }}] }}"#))
    };
    assert!(store(&format!(r#""device": "{}""#, long(255))).is_ok());
    let problems = store(&format!(r#""device": "{}""#, long(256))).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .ends_with("its path has 256 bytes, and the kernel takes 255; name it by its UUID="),
        "{problems:?}"
    );
    let option = |bytes| {
        store(&format!(r#""device": "/dev/vda", "options": ["noatime,journal_path={}"]"#, long(bytes)))
    };
    assert!(option(255).is_ok());
    let problems = option(256).unwrap_err();
    assert!(problems[0].to_string().contains("`journal_path` is longer than the 255 bytes"), "{problems:?}");

    // No text says these.
    let whole = manifest(r#""entries": [{ "directory": "/a" }], "parents": [{ "directory": "/p" }]"#);
    let long = AbsPath::parse(&long(4095)).unwrap().child("x");
    let breaks: [fn(&mut Manifest, AbsPath); 4] = [
        |it, path| it.entries[0].target = path,
        |it, path| it.entries[0].source = Some(path),
        |it, path| it.parents[0].path = path,
        |it, path| it.stores[0].path = path,
    ];
    for damage in breaks {
        for path in [long.clone(), AbsPath::root().child(&"x".repeat(256))] {
            let mut manifest = whole.clone();
            damage(&mut manifest, path);
            let refused = wire::decode(&crate::wire::sealed(&manifest)).unwrap_err().to_string();
            assert!(refused.contains(" is longer than "), "{refused}");
        }
    }
}

#[test]
fn the_binary_form_says_how_much_else_is_wrong() {
    let mut manifest = manifest(r#""entries": [{ "directory": "/a" }, { "directory": "/b" }]"#);
    manifest.entries.iter_mut().for_each(|entry| entry.store = 3);
    let problem = wire::encode(&manifest).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "entries[0] /a: its store has the number 3, and there is none (and 1 more); compile it again"
    );
}
