//! The manifest's text form: JSON, by the NixOS module or by hand.
//!
//! All errors are collected, so that one build shows all. The accepted manifest is normalised: path order, and no
//! duplicates.

mod fields;
mod layout;

pub use self::fields::SUFFIXES;
use self::fields::{Fields, path, text};
use self::layout::{Explicit, Layout};
use super::refuse::{self, Place};
use super::{
    AbsPath, BindOptions, Entry, Ids, Kind, Manifest, Method, Missing, OldRoots, Owner, Parent, Phase, Root,
    Store,
};
use super::{mode, pattern, wire};
use crate::text::escape;
use crate::text::json::Value;
use crate::text::problem::Problem;

/// The version of the text form read here.
pub const VERSION: u32 = 1;

/// The text of a file.
///
/// # Errors
/// Its encoding, or the place of the first byte that is no UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    let other = |at: usize, what: &str, encoding: &str| {
        let line = bytes[..at].split(|byte| *byte == b'\n').count();
        let remedy = format!("convert it with `iconv -f {encoding} -t UTF-8`");
        let remedy = if encoding == "ENCODING" {
            remedy + ", where ENCODING is LATIN1 or another one"
        } else {
            remedy
        };
        Problem::new(format!("this is no JSON: it is {what}")).at(format!("line {line}")).remedy(remedy)
    };
    if let Some(encoding) = wide(bytes) {
        return Err(other(0, &format!("{encoding} text"), encoding));
    }
    str::from_utf8(bytes).map_err(|error| other(error.valid_up_to(), "no UTF-8 text", "ENCODING"))
}

/// True if a file is no compiled manifest, and text in some encoding.
#[must_use]
pub fn is_text(bytes: &[u8]) -> bool {
    !wire::is_compiled(bytes) && (wide(bytes).is_some() || !bytes.contains(&0))
}

/// The encoding of a text with more than one byte for each letter, by its first ones: a byte order mark, or letters of ASCII.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    match (bytes, bytes.first_chunk::<4>()?.map(|byte| byte == 0)) {
        ([0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..], _) => Some("UTF-32"),
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => Some("UTF-16"),
        (_, [false, true, true, true]) => Some("UTF-32LE"),
        (_, [true, true, true, false]) => Some("UTF-32BE"),
        (_, [false, true, false, true]) => Some("UTF-16LE"),
        (_, [true, false, true, false]) => Some("UTF-16BE"),
        _ => None,
    }
}

/// Reads a manifest in its text form.
///
/// # Errors
/// Every error: each with its place as written, such as `entries[3] /var/lib/plex`.
pub fn parse(json: &str) -> Result<Manifest, Vec<Problem>> {
    parse_with_notes(json).map(|(manifest, _)| manifest)
}

/// As [`parse`], with notes about probable mistakes.
///
/// # Errors
/// As for [`parse`].
pub fn parse_with_notes(json: &str) -> Result<(Manifest, Vec<Problem>), Vec<Problem>> {
    if json.starts_with('\u{feff}') {
        let what = "this is no JSON: it begins with a byte order mark (the bytes EF BB BF)";
        return Err(vec![
            Problem::new(what)
                .at("line 1, column 1")
                .remedy("save it as UTF-8 without one, or remove it: `sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`"),
        ]);
    }
    let tree: Value = serde_json::from_str(json).map_err(|error| vec![syntax(&error)])?;
    let mut problems = Vec::new();
    let (manifest, layout, places) =
        read(&tree, &mut problems).ok_or_else(|| std::mem::take(&mut problems))?;
    problems.extend(refuse::problems(&manifest, &|place| places.name(place)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let note = |(entry, place): (&Entry, &String)| {
        let persists = layout.as_ref().and_then(|layout| layout.note(entry));
        persists.into_iter().chain(hidden(entry)).map(|note| note.at(place)).collect::<Vec<_>>()
    };
    let notes = manifest.entries.iter().zip(&places.entries).flat_map(note).collect();
    Ok((manifest, notes))
}

/// A note on a path with invisible characters: most come from a paste, few from the name of a file.
fn hidden(entry: &Entry) -> Option<Problem> {
    let mut paths = [&entry.target].into_iter().chain(&entry.source).map(AbsPath::as_str);
    let path = escape::name(paths.find(|path| path.contains(escape::is_hidden))?);
    let what =
        format!("{path} has characters that are invisible or turn the direction of text, shown as escapes");
    Some(Problem::new(what).remedy("write the path anew without them, unless the file has that name"))
}

fn syntax(error: &serde_json::Error) -> Problem {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    Problem::new(format!("this is no JSON: {}", text.strip_suffix(&place).unwrap_or(&text))).at(format!(
        "line {}, column {}",
        error.line(),
        error.column()
    ))
}

/// Positions in the text.
#[derive(Default)]
struct Places {
    stores: Vec<String>,
    parents: Vec<String>,
    entries: Vec<String>,
}

impl Places {
    fn name(&self, place: Place) -> String {
        match place {
            Place::Manifest => String::new(),
            Place::Root => "root".to_owned(),
            Place::OldRoots => "old_roots".to_owned(),
            Place::Ids => "ids".to_owned(),
            Place::Store(index) => self.stores[index].clone(),
            Place::Parent(index) => self.parents[index].clone(),
            Place::Entry(index) => self.entries[index].clone(),
        }
    }
}

/// The readable part of the manifest; none for an unknown version.
fn read(tree: &Value, problems: &mut Vec<Problem>) -> Option<(Manifest, Option<Layout>, Places)> {
    let mut fields = Fields::open("", tree, problems)?;
    if let Some(version) = fields.need("version", |value| match value {
        Value::Number(version) => Ok(version.clone()),
        other => Err(format!("must be a number, not {other}")),
    }) && version != VERSION.into()
    {
        fields.wrong(
            format!("version {version}: this impctl reads {VERSION}"),
            "use the impctl that comes with whatever wrote the manifest",
        );
        return None;
    }
    let root = fields.object("root", "root.", |root| Root {
        on: root.read("on", path),
        convert: root.read("convert", path),
        size: root.read("size", owned),
        mode: root.read("mode", |value| mode::parse(text(value)?, true)).unwrap_or(0o755),
        inodes: root.read("inodes", owned),
        options: root.texts("options"),
    });
    let mut stores = fields.items("stores", &["path"], store);
    let complete = stores.len() == fields.length("stores");
    if let Some(path) = root.as_ref().and_then(|root| root.convert.clone())
        && stores.iter().all(|(store, _)| store.path != path)
    {
        let place = format!("root.convert {path}");
        stores.push((Store { path, required: true, device: None, fstype: None, options: Vec::new() }, place));
    }
    stores.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    let (stores, store_places): (Vec<_>, _) = stores.into_iter().unzip();

    let on = root.as_ref().and_then(|root| root.on.as_ref());
    let old_roots =
        fields.object("old_roots", "old_roots.", |fields| old_roots(fields, on, &stores, complete));

    let mut parents = fields.items("parents", &["directory"], |parent| {
        let path = parent.need("directory", path);
        let owner = parent.owner(true);
        Some(Parent { path: path?, owner })
    });
    parents.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
    let (parents, parent_places) = parents.into_iter().unzip();

    let mut entries =
        fields.items("entries", &["directory", "file"], |fields| entry(fields, &stores, complete));
    entries.sort_by(|((one, _), _), ((other, _), _)| one.target.cmp(&other.target));

    let ids = fields.object("ids", "ids.", |ids| Ids {
        users: ids.table("users"),
        groups: ids.table("groups"),
        strict: ids.flag("strict", false),
    });
    let layout = fields.object("layout", "layout.", Layout::read);
    fields.finish();
    layout::apply(layout.as_ref(), entries.iter_mut().map(|((entry, explicit), _)| (entry, &*explicit)));
    let (entries, entry_places) = entries.into_iter().map(|((entry, _), place)| (entry, place)).unzip();
    Some((
        Manifest {
            root,
            old_roots: old_roots.flatten(),
            stores,
            parents,
            entries,
            ids: ids.unwrap_or_default(),
        },
        layout,
        Places { stores: store_places, parents: parent_places, entries: entry_places },
    ))
}

fn store(fields: &mut Fields<'_, '_>) -> Option<Store> {
    let path = fields.need("path", path);
    let required = fields.flag("required", true);
    let device = fields.read("device", owned);
    // mount(8)'s type for detection.
    let fstype = fields.read("fstype", owned).filter(|fstype| fstype != "auto");
    let options = fields.texts("options");
    Some(Store { path: path?, required, device, fstype, options })
}

/// Limits of old roots. They lie on the store of the root, if the root is on one.
fn old_roots(
    fields: &mut Fields<'_, '_>,
    on: Option<&AbsPath>,
    stores: &[Store],
    complete: bool,
) -> Option<OldRoots> {
    let index = |path: &AbsPath| stores.iter().position(|store| store.path == *path);
    let store = match on.and_then(index).filter(|_| !fields.has("store")) {
        Some(index) => u16::try_from(index).ok(),
        None => store_of(fields, stores, complete),
    };
    let (boots, days, size) = (fields.count("boots"), fields.count("days"), fields.bytes("size"));
    let (save_size, save_seconds) = (fields.bytes("save_size"), fields.count("save_seconds"));
    let usual = OldRoots::new(store?);
    Some(OldRoots {
        boots: boots.unwrap_or(usual.boots),
        days: days.unwrap_or(usual.days),
        size: size.unwrap_or(usual.size),
        save_size: save_size.unwrap_or(usual.save_size),
        save_seconds: save_seconds.unwrap_or(usual.save_seconds),
        ..usual
    })
}

/// An entry, and its keys with a default by the layout; none if its path or its store is unclear.
fn entry(fields: &mut Fields<'_, '_>, stores: &[Store], complete: bool) -> Option<(Entry, Explicit)> {
    let directory = fields.read("directory", |value| Ok((path(value)?, Kind::Directory)));
    let file = fields.read("file", |value| pattern::read(text(value)?));
    match (fields.has("directory"), fields.has("file")) {
        (true, true) => fields.wrong("both `directory` and `file`", "keep one of the two"),
        (false, false) => fields.wrong("neither `directory` nor `file`", "say which path persists"),
        _ => {}
    }
    let is_directory = fields.has("directory");
    if is_directory && fields.has("missing") {
        fields.wrong(
            "`missing` is for files only",
            "leave it out: a directory is created when the store does not hold it",
        );
    }
    let store = store_of(fields, stores, complete);
    let source = fields.read("source", path);
    let owner = fields.owner(is_directory);
    let parents = fields.object("parents", "parents.", |parents| parents.owner(true));
    let method = fields.word("method", [Method::Bind, Method::Symlink, Method::Copy], Method::name);
    let missing = fields.word(
        "missing",
        [Missing::Link, Missing::Create, Missing::Skip, Missing::Fail, Missing::MachineId],
        Missing::name,
    );
    let says_when = fields.has("phase");
    let phase = fields.word("phase", [Phase::Boot, Phase::Early, Phase::Etc, Phase::Live], Phase::name);
    let says_required = fields.has("required");
    let required = fields.flag("required", true);
    let mut this = Entry {
        target: AbsPath::root(),
        kind: Kind::Directory,
        store: 0,
        source: None,
        owner,
        parents: parents.filter(|owner| *owner != Owner::default()).map(Box::new),
        method: Method::default(),
        missing: Missing::default(),
        options: BindOptions::DEFAULT,
        required,
        enforce: fields.flag("enforce", false),
        hidden: fields.flag("hidden", false),
        trash: fields.flag("trash", false),
        phase: Phase::default(),
    };
    options(fields, &mut this);
    (this.target, this.kind) = directory.or(file)?;
    this.source = source.filter(|source| *source != this.target);
    (this.store, this.method) = (store?, method?);
    // Its errors were reported before.
    this.missing = if is_directory { Missing::default() } else { missing? };
    let explicit =
        Explicit { phase: says_when.then_some(phase?), required: says_required.then_some(required) };
    Some((this, explicit))
}

/// The store of an entry; the only one by default.
fn store_of(fields: &mut Fields<'_, '_>, stores: &[Store], complete: bool) -> Option<u16> {
    let named = fields.read("store", path);
    let index = match (named, stores) {
        (Some(path), _) => {
            let index = stores.iter().position(|store| store.path == path);
            if index.is_none() && complete {
                fields.wrong(
                    format!("{}: there is no store {path}", fields.key("store")),
                    &format!("the stores are {}", list(stores)),
                );
            }
            index?
        }
        // A manifest without stores is reported once, and not here.
        (None, [] | [_]) if complete && !fields.has("store") => 0,
        (None, [_, _, ..]) if !fields.has("store") => {
            let what = format!("{} is missing, and there are several", fields.key("store"));
            fields.wrong(what, &format!("name one of {}", list(stores)));
            return None;
        }
        _ => return None,
    };
    u16::try_from(index).ok()
}

fn list(stores: &[Store]) -> String {
    stores.iter().map(|store| store.path.to_string()).collect::<Vec<_>>().join(", ")
}

/// The options of an entry's mount. Two of them are for file managers, and not options of the mount.
fn options(fields: &mut Fields<'_, '_>, entry: &mut Entry) {
    let texts = fields.texts("options");
    for word in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "x-gvfs-hide" => entry.hidden = true,
            "x-gvfs-trash" => entry.trash = true,
            _ if entry.options.apply(word) => {}
            _ => {
                let known: Vec<_> =
                    BindOptions::words_known().chain(["x-gvfs-hide", "x-gvfs-trash"]).collect();
                fields.wrong(
                    format!("`options`: `{}` is no option of a bind mount", escape::name(word)),
                    &format!("the options are {}", known.join(", ")),
                );
            }
        }
    }
}

fn owned(value: &Value) -> Result<String, String> {
    text(value).map(str::to_owned)
}
