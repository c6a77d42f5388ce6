# Parts of systems with one service of nixpkgs each: of every option `services.*.enable`, set to true alone, the files
# of /etc about state. Files of a system without any service are omitted.
{
  nixpkgs,
  # A selection, as "services.name"; without it the result is the list of all, and the files of /etc of every system.
  services ? null,
}:
let
  lib = import (nixpkgs + "/lib");
  inherit (import ./systems.nix { inherit nixpkgs; }) evaluate;
  bare = evaluate { };

  # True if a value can be evaluated. Errors other than throw end the evaluation; the caller has to skip them.
  can = value: (builtins.tryEval (builtins.deepSeq value value)).success;
  isOption = it: it._type or null == "option";
  isSwitch =
    it:
    let
      isOff = builtins.tryEval (it.default or true == false);
    in
    isOption it && it.type.name == "bool" && it.visible or true == true && isOff.success && isOff.value;
  all =
    path: set:
    lib.optional (isSwitch (set.enable or null)) (lib.concatStringsSep "." path)
    ++ lib.concatMap (
      name:
      let
        it = builtins.tryEval set.${name};
      in
      lib.optionals (it.success && lib.isAttrs it.value && !isOption it.value) (
        all (path ++ [ name ]) it.value
      )
    ) (lib.attrNames set);

  partsOf = import ./parts.nix { inherit lib; };
  rows =
    config:
    lib.concatLists (
      lib.attrValues (import ../../../nixos-module/presets/groups.nix { inherit config lib; })
    );
  of =
    name:
    let
      inherit (evaluate (lib.setAttrByPath (lib.splitString "." name ++ [ "enable" ]) true)) config;
      refused = map (it: it.message) (lib.filter (it: !it.assertion) config.assertions);
      # Parts missing in a system without the service.
      answer =
        lib.mapAttrs (
          key: value:
          let
            others = (partsOf bare.config).${key};
          in
          if lib.isList value then
            lib.subtractLists others value
          else
            removeAttrs value (lib.attrNames others)
        ) (partsOf config)
        // {
          rows = map (row: row.directory or row.file) (lib.subtractLists (rows bare.config) (rows config));
        };
    in
    if !can refused then
      { error = "it needs more"; }
    else if refused != [ ] then
      { error = lib.head refused; }
    else if can answer then
      answer
    else
      { error = "it needs more"; };
in
if services == null then
  {
    services = all [ "services" ] bare.options.services;
    etc = lib.attrNames bare.config.environment.etc;
  }
else
  # One line each, printed at once: some services end the evaluation.
  lib.foldl' (_: name: builtins.trace (builtins.toJSON { ${name} = of name; }) null) null services
