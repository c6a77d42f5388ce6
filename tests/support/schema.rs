//! JSON output and its schemas.

use serde_json::Value;

use super::Output;

/// The schemas of docs, by the command.
const SCHEMAS: [(&str, &str); 9] = [
    ("adopt", include_str!("../../docs/adopt.schema.json")),
    ("check", include_str!("../../docs/check.schema.json")),
    ("lost", include_str!("../../docs/lost.schema.json")),
    ("migrate", include_str!("../../docs/migrate.schema.json")),
    ("orphans", include_str!("../../docs/orphans.schema.json")),
    ("plan", include_str!("../../docs/plan.schema.json")),
    ("recover", include_str!("../../docs/recover.schema.json")),
    ("roots", include_str!("../../docs/roots.schema.json")),
    ("status", include_str!("../../docs/status.schema.json")),
];

/// The schema of the output of a command.
pub fn schema(command: &str) -> Value {
    let (_, text) = SCHEMAS.iter().find(|(name, _)| *name == command).expect("there is a schema");
    serde_json::from_str(text).unwrap()
}

/// The output of a command as JSON, which must fit its schema.
#[track_caller]
pub fn json_of(output: &Output, command: &str) -> Value {
    let validator = jsonschema::draft202012::new(&schema(command)).unwrap();
    let json = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let errors: Vec<_> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0], "{json:#}");
    json
}
