//! JSON Schemas of the output of the programs, generated from its types: `docs/NAME.schema.json`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::{adopt, audit, lost, migrate, orphans, recover, roots, status};
use crate::check::Findings;
use crate::plan::print::Line;
use crate::text::escape;

/// The schema of a type, for the command with this output.
fn schema<T: JsonSchema>(command: &str) -> Schema {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.root_schema_for::<T>();
    schema.insert("title".to_owned(), json!(format!("Output of {command}")));
    RecursiveTransform(tidy).transform(&mut schema);
    RecursiveTransform(close).transform(&mut schema);
    RecursiveTransform(join).transform(&mut schema);
    schema
}

/// Removes names of Rust's numbers, and line ends of comments.
fn tidy(schema: &mut Schema) {
    schema.remove("format");
    let description = schema.get("description").and_then(Value::as_str).map(|text| text.replace('\n', " "));
    if let Some(text) = description {
        schema.insert("description".to_owned(), json!(text));
    }
}

/// Forbids members of an object outside its type. An optional member is never null.
fn close(schema: &mut Schema) {
    let required: Vec<_> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (_, member) in members.iter_mut().filter(|(name, _)| !required.contains(&json!(name))) {
        if let Some([kind, null]) = member["type"].as_array().map(Vec::as_slice)
            && null == "null"
        {
            member["type"] = kind.clone();
        }
        assert!(member.get("anyOf").is_none(), "a member of another form is null where it is left out");
    }
    let has_alternatives = schema.get("oneOf").is_some();
    let key = if has_alternatives { "unevaluatedProperties" } else { "additionalProperties" };
    schema.insert(key.to_owned(), json!(false));
}

/// Leaves the members of alternatives to the object with one of them.
fn join(schema: &mut Schema) {
    if schema.get("unevaluatedProperties").is_some()
        && let Some(alternatives) = schema.get_mut("oneOf").and_then(Value::as_array_mut)
    {
        let alternatives = alternatives.iter_mut().filter_map(Value::as_object_mut);
        alternatives.for_each(|one| drop(one.remove("additionalProperties")));
    }
}

/// Compares a schema with its file, or writes the file where `UPDATE` is set.
fn compare(name: &str, schema: &Schema) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
    let text = escape::json(schema).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, text.as_str()).unwrap();
    }
    fs::read_to_string(&path).is_ok_and(|written| written == text.as_str())
}

#[test]
fn the_files_of_docs_are_the_schemas_of_the_types() {
    let all = [
        ("adopt", schema::<adopt::Document<'_>>("impctl adopt --json")),
        ("audit", schema::<audit::Document<'_>>("impctl audit --json")),
        ("check", schema::<Findings>("imp-mount --check --json")),
        ("lost", schema::<lost::Document<'_>>("impctl lost --json")),
        ("migrate", schema::<migrate::Outcome>("impctl migrate --json")),
        ("orphans", schema::<orphans::Document<'_>>("impctl orphans --json")),
        ("plan", schema::<Vec<Line>>("imp-mount --plan --json")),
        ("recover", schema::<recover::Document<'_>>("impctl recover --json")),
        ("roots", schema::<roots::Document<'_>>("impctl roots --json")),
        ("status", schema::<status::Status>("impctl status --json")),
    ];
    let stale: Vec<_> =
        all.iter().filter(|(name, schema)| !compare(name, schema)).map(|(name, _)| *name).collect();
    assert!(
        stale.is_empty(),
        "not as the types: {}: UPDATE=1 cargo test --lib schemas writes docs/*.schema.json",
        stale.join(", ")
    );
}
