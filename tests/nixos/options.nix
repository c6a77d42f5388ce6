# docs/options.md, from the module itself.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  inherit
    (lib.evalModules {
      modules = [
        ../../nixos-module/options.nix
        ../../nixos-module/plan.nix
        ../../nixos-module/manifest.nix
        ../../nixos-module/interfaces/impermanence
        ../../nixos-module/presets
        ../../nixos-module/audit
        ../../nixos-module/effects/vm.nix
        {
          _module.args = {
            # No option's documentation looks at packages.
            pkgs.formats.json = _: { type = lib.types.json; };
            utils = throw "no option's documentation looks at utils";
          };
          _module.check = false;
        }
      ];
    })
    options
    ;
  all = lib.concatMap lib.optionAttrSetToDocList [
    options.imp-mount
    options.environment
  ];
  # A user's lists have the same options as a store's.
  again = it: lib.hasInfix ".users.<name>." it.name && lib.hasInfix "*" it.name;
  public = lib.filter (it: it.visible && !it.internal && !again it) all;

  text = value: if value ? text then value.text else builtins.toJSON value;
  # A text longer than a line goes into a block.
  code =
    value:
    let
      it = lib.trim (text value);
    in
    if value._type or "" == "literalMD" then
      " ${it}"
    else if lib.hasInfix "\n" it then
      "\n\n```nix\n${it}\n```"
    else
      " `${it}`";
  line = word: value: lib.optionalString (value != null) "\n${word}:${code value}\n";
  section = it: ''
    ## `${it.name}`

    ${lib.trim it.description}

    Type: ${it.type}
    ${line "Default" (it.default or null)}${line "Example" (it.example or null)}
  '';
in
''
  # Options of the NixOS module

  <!-- Written by `UPDATE=1 tests/nixos/run` from the module itself. -->

  [manifest(5)](manifest.5) describes the results of the options.

  With home-manager as a NixOS module, users have `home.persistence.<name>`, with the options of
  `environment.persistence.<name>` but for `users`; paths are relative to the home. Entries of
  `environment.persistence.<name>.users.<name>` have the options of the store's own. `preservation.preserveAt` is
  [read as well](from-preservation.md).

''
+ lib.concatMapStrings section (lib.sort (one: other: one.name < other.name) public)
