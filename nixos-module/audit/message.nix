# The text of the audit.
{ lib }:
{
  # Findings: { path, class, why, fix }, where `fix` is { preset = "services"; }, { row = ROW; } or { text = "..."; }.
  findings,
  # The store that a line would stand under.
  store,
}:
let
  pad = width: text: text + lib.concatStrings (lib.replicate (width - lib.stringLength text) " ");
  # The left column, padded to its widest text, and the meaning behind `mark`.
  table =
    mark: left: rows:
    let
      width = lib.foldl' lib.max 0 (map (row: lib.stringLength (left row)) rows);
    in
    lib.concatMapStrings (row: "    ${pad width (left row)}  ${mark}${row.why}\n") rows;

  # The element of a list for a row of ../state, with only those options that differ from the defaults.
  line =
    row:
    let
      isFile = row ? file;
      path = row.directory or row.file;
      said =
        lib.optional (row.user or "root" != "root") "user = \"${row.user}\";"
        ++ lib.optional (row.group or "root" != "root") "group = \"${row.group}\";"
        ++ lib.optional (!lib.elem (row.mode or "0755") [ "0755" "755" ]) "mode = \"${row.mode}\";";
    in
    if said == [ ] then
      "\"${path}\""
    else
      "{ ${if isFile then "file" else "directory"} = \"${path}\"; ${lib.concatStringsSep " " said} }";

  ofKind = kind: lib.filter (it: it.fix ? ${kind});
  list =
    name: key: found:
    let
      rows = lib.filter (it: it.fix.row ? ${key}) (ofKind "row" found);
    in
    lib.optional (rows != [ ]) ''
      ${"  "}environment.persistence."${store}".${name} = [
      ${table "# " (it: line it.fix.row) rows}  ];
    '';
  sections =
    found:
    let
      presets = lib.groupBy (it: it.fix.preset) (ofKind "preset" found);
    in
    map (preset: "  imp-mount.persist.${preset} = true;\n${table "" (it: it.path) presets.${preset}}") (
      lib.filter (preset: presets ? ${preset}) [
        "essentials"
        "logs"
        "services"
        "homes"
        "containers"
      ]
    )
    ++ list "directories" "directory" found
    ++ list "files" "file" found
    ++ map (it: "  ${it.fix.text}\n${table "" (it: it.path) [ it ]}") (ofKind "text" found);

  # The gravest first.
  parts = map (part: part // { found = lib.filter (it: lib.elem (it.class or "data") part.classes) findings; }) [
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
  imp-mount: the next boot would lose ${if count == 1 then "this" else "these ${toString count}"}. Keep each by the line above it, or let it go by
    imp-mount.auditIgnore = [ { path = "${(lib.head findings).path}"; reason = "..."; } ];

''
+ lib.concatMapStrings (
  part: lib.optionalString (part.found != [ ]) "${part.title}\n${lib.concatStrings (sections part.found)}"
) parts
