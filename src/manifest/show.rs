//! A compiled manifest as text again, without default values: compiling the text gives the same manifest.

use std::collections::BTreeMap;

use super::{
    AbsPath, Entry, Id, Kind, Manifest, Method, Missing, OldRoots, Owner, Parent, Phase, Root, Store,
};
use super::{mode, pattern, text::SUFFIXES, text::VERSION};
use crate::text::json::Value;

/// The manifest in its text form, with a line for every entry.
#[must_use]
pub fn show(manifest: &Manifest) -> String {
    let mut object = Object::default();
    object.put("version", Some(Value::Number(VERSION.into())));
    object.put("root", manifest.root.as_ref().map(root));
    object.put("old_roots", manifest.old_roots.as_ref().map(|it| old_roots(it, manifest)));
    object.list("stores", manifest.stores.iter().map(store));
    object.list("parents", manifest.parents.iter().map(parent));
    object.list("entries", manifest.entries.iter().map(|it| entry(it, manifest)));
    let mut ids = Object::default();
    ids.table("users", &manifest.ids.users);
    ids.table("groups", &manifest.ids.groups);
    ids.flag("strict", manifest.ids.strict, false);
    object.put("ids", (!ids.0.is_empty()).then_some(Value::Object(ids.0)));
    Value::Object(object.0).to_json()
}

fn root(root: &Root) -> Value {
    let mut object = Object::default();
    object.text("on", root.on.as_ref().map(AbsPath::as_str));
    object.text("convert", root.convert.as_ref().map(AbsPath::as_str));
    object.text("size", root.size.as_deref());
    object.mode(Some(root.mode).filter(|mode| *mode != 0o755));
    object.text("inodes", root.inodes.as_deref());
    object.list("options", root.options.iter().map(|option| Value::Text(option.clone())));
    Value::Object(object.0)
}

fn old_roots(old: &OldRoots, manifest: &Manifest) -> Value {
    let usual = OldRoots::new(old.store);
    let mut object = Object::default();
    let store = manifest.stores.get(usize::from(old.store));
    object.text("store", store.filter(|_| manifest.stores.len() > 1).map(|store| store.path.as_str()));
    object.count("boots", old.boots, usual.boots);
    object.count("days", old.days, usual.days);
    object.bytes("size", old.size, usual.size);
    object.bytes("save_size", old.save_size, usual.save_size);
    object.count("save_seconds", old.save_seconds, usual.save_seconds);
    Value::Object(object.0)
}

fn store(store: &Store) -> Value {
    let mut object = Object::default();
    object.text("path", Some(store.path.as_str()));
    object.flag("required", store.required, true);
    object.text("device", store.device.as_deref());
    object.text("fstype", store.fstype.as_deref());
    object.list("options", store.options.iter().map(|option| Value::Text(option.clone())));
    Value::Object(object.0)
}

fn parent(parent: &Parent) -> Value {
    let mut object = Object::default();
    object.text("directory", Some(parent.path.as_str()));
    object.owner(&parent.owner);
    Value::Object(object.0)
}

fn entry(entry: &Entry, manifest: &Manifest) -> Value {
    let mut object = Object::default();
    match entry.kind {
        Kind::Directory => object.text("directory", Some(entry.target.as_str())),
        kind => object.text("file", Some(&pattern::write(&entry.target, kind))),
    }
    object.text("store", (manifest.stores.len() > 1).then(|| manifest.store(entry).path.as_str()));
    object.text("source", entry.source.as_ref().map(AbsPath::as_str));
    object.owner(&entry.owner);
    object.put(
        "parents",
        entry.parents.as_ref().map(|owner| {
            let mut parents = Object::default();
            parents.owner(owner);
            Value::Object(parents.0)
        }),
    );
    object.text("method", Some(entry.method).filter(|it| *it != Method::default()).map(Method::name));
    object.text("missing", Some(entry.missing).filter(|it| *it != Missing::default()).map(Missing::name));
    object.list("options", entry.options.words().map(|word| Value::Text(word.to_owned())));
    object.flag("required", entry.required, true);
    object.flag("enforce", entry.enforce, false);
    object.flag("hidden", entry.hidden, false);
    object.flag("trash", entry.trash, false);
    object.text("phase", Some(entry.phase).filter(|it| *it != Phase::default()).map(Phase::name));
    Value::Object(object.0)
}

/// The members of a new JSON object.
#[derive(Default)]
struct Object(Vec<(String, Value)>);

impl Object {
    fn put(&mut self, key: &str, value: Option<Value>) {
        self.0.extend(value.map(|value| (key.to_owned(), value)));
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.put(key, text.map(|text| Value::Text(text.to_owned())));
    }

    fn flag(&mut self, key: &str, flag: bool, default: bool) {
        self.put(key, (flag != default).then_some(Value::Flag(flag)));
    }

    fn count(&mut self, key: &str, count: u32, default: u32) {
        self.put(key, (count != default).then(|| Value::Number(count.into())));
    }

    /// A number of bytes, with the largest suffix for a whole number.
    fn bytes(&mut self, key: &str, bytes: u64, default: u64) {
        let mut text = (bytes, None);
        for suffix in SUFFIXES {
            if text.0 % 1024 == 0 && text.0 > 0 {
                text = (text.0 / 1024, Some(suffix.to_ascii_uppercase()));
            } else {
                break;
            }
        }
        let text = format!("{}{}", text.0, text.1.map(String::from).unwrap_or_default());
        self.text(key, Some(text.as_str()).filter(|_| bytes != default));
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = Value>) {
        let values: Vec<_> = values.collect();
        self.put(key, (!values.is_empty()).then_some(Value::List(values)));
    }

    fn table(&mut self, key: &str, ids: &BTreeMap<String, u32>) {
        let lines =
            ids.iter().map(|(name, number)| (name.clone(), Value::Number((*number).into()))).collect();
        self.put(key, (!ids.is_empty()).then_some(Value::Object(lines)));
    }

    fn mode(&mut self, bits: Option<u16>) {
        self.put("mode", bits.map(|bits| Value::Text(mode::show(bits))));
    }

    fn owner(&mut self, owner: &Owner) {
        for (key, id) in [("user", &owner.user), ("group", &owner.group)] {
            self.put(
                key,
                id.as_ref().map(|id| match id {
                    Id::Number(number) => Value::Number((*number).into()),
                    Id::Name(name) => Value::Text(name.clone()),
                }),
            );
        }
        self.mode(owner.mode);
    }
}
