# The text of the audit.
{ lib }:
# Findings: { path, class, why, fix }, where `fix` is { preset = "services"; } or { text = "..."; }.
findings:
let
  pad = width: text: text + lib.concatStrings (lib.replicate (width - lib.stringLength text) " ");
  # Paths, padded to the widest, and their meaning.
  table =
    rows:
    let
      width = lib.foldl' lib.max 0 (map (row: lib.stringLength row.path) rows);
    in
    lib.concatMapStrings (row: "    ${pad width row.path}  ${row.why}\n") rows;

  ofKind = kind: lib.filter (it: it.fix ? ${kind});
  sections =
    found:
    let
      presets = lib.groupBy (it: it.fix.preset) (ofKind "preset" found);
    in
    map (preset: "  imp-mount.persist.${preset} = true;\n${table presets.${preset}}") (
      lib.filter (preset: presets ? ${preset}) [
        "essentials"
        "logs"
        "services"
        "homes"
        "containers"
      ]
    )
    ++ map (it: "  ${it.fix.text}\n${table [ it ]}") (ofKind "text" found);

  # The gravest first.
  parts =
    map
      (part: part // { found = lib.filter (it: lib.elem (it.class or "data") part.classes) findings; })
      [
        {
          title = "Data, keys and ways in:";
          classes = [
            "key"
            "data"
          ];
        }
        {
          title = "What this machine and others know each other by:";
          classes = [ "identity" ];
        }
        {
          title = "History and comfort:";
          classes = [
            "history"
            "comfort"
          ];
        }
      ];
  count = lib.length findings;
in
''
  imp-mount: the next boot would lose ${
    if count == 1 then "this" else "these ${toString count}"
  }. Keep each by the line above it, or let it go by
    imp-mount.audit.ignore = [ { path = "${(lib.head findings).path}"; reason = "..."; } ];

''
+ lib.concatMapStrings (
  part:
  lib.optionalString (part.found != [ ]) "${part.title}\n${lib.concatStrings (sections part.found)}"
) parts
