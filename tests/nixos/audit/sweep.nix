# What systems consist of that have one service of nixpkgs each: of every option `services.*.enable`, set to true alone, the parts
# of /etc that bring state. Those that a system without any has too are left out.
{
  nixpkgs,
  # Some of them, as "services.name"; without it the answer is the list of all, and what of /etc every system has.
  services ? null,
}:
let
  lib = import (nixpkgs + "/lib");
  inherit (import ./systems.nix { inherit nixpkgs; }) evaluate;
  bare = evaluate { };

  # Whether a value can be had. Errors that are no throw end the evaluation, and are for the caller to get round.
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

  # What is in a set, and not in that of a system without the service.
  more = get: config: removeAttrs (get config) (lib.attrNames (get bare.config));
  rulesOf =
    config:
    config.systemd.tmpfiles.rules
    ++ lib.concatLists (
      lib.concatMap (
        byPath:
        lib.mapAttrsToList (
          path:
          lib.mapAttrsToList (
            type: it:
            lib.concatMapStringsSep " " (word: if word == "" then "-" else word) [
              type
              path
              it.mode
              it.user
              it.group
              it.age
              it.argument
            ]
          )
        ) byPath
      ) (lib.attrValues config.systemd.tmpfiles.settings)
    );
  # The scripts that NixOS makes for a unit, by the end of the program's name.
  scripts = {
    start = "script";
    pre-start = "preStart";
    post-start = "postStart";
    reload = "reload";
    pre-stop = "preStop";
    post-stop = "postStop";
  };
  rows = config: lib.concatLists (lib.attrValues (import ../../../nixos-module/state { inherit config lib; }));
  of =
    name:
    let
      inherit (evaluate (lib.setAttrByPath (lib.splitString "." name ++ [ "enable" ]) true)) config;
      refused = map (it: it.message) (lib.filter (it: !it.assertion) config.assertions);
      answer = {
        units = lib.mapAttrs (name: _: config.systemd.units.${name}.text) (
          more (config: config.systemd.units) config
        );
        scripts = lib.mapAttrs (
          _: service: lib.filterAttrs (_: text: text != "") (lib.mapAttrs (_: key: service.${key}) scripts)
        ) (more (config: config.systemd.services) config);
        etc = lib.mapAttrs (_: it: it.text) (more (config: config.environment.etc) config);
        rules = lib.subtractLists (rulesOf bare.config) (rulesOf config);
        users = map (user: { inherit (user) name group home; }) (
          lib.attrValues (more (config: config.users.users) config)
        );
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
  # One line each, as soon as it is known: some end the evaluation.
  lib.foldl' (_: name: builtins.trace (builtins.toJSON { ${name} = of name; }) null) null services
