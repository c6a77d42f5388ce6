# The parts of a built system read by `impctl audit`, from its configuration: trees.sh makes a root of them. Files made only by a build
# are empty there.
{ lib }:
config:
let
  # The scripts of a unit by NixOS, by the end of the program's name.
  scripts = {
    start = "script";
    pre-start = "preStart";
    post-start = "postStart";
    reload = "reload";
    pre-stop = "preStop";
    post-stop = "postStop";
  };
  line = lib.concatMapStringsSep " " (word: if word == "" then "-" else word);
  ofSetting =
    path: type: it:
    line [
      type
      path
      it.mode
      it.user
      it.group
      it.age
      it.argument
    ];
  ofSettings = lib.mapAttrsToList (path: lib.mapAttrsToList (ofSetting path));
  isElsewhere =
    source: lib.isString source && lib.hasPrefix "/" source && !lib.hasPrefix builtins.storeDir source;
  file =
    name: it:
    # A container's file contains a whole system.
    if lib.hasPrefix "nixos-containers/" name then
      null
    else if it.text == null && isElsewhere it.source then
      { to = it.source; }
    else
      it.text;
  ssh = config.services.openssh;
in
{
  units = lib.mapAttrs (_: unit: unit.text) (
    lib.filterAttrs (_: unit: unit.enable) config.systemd.units
  );
  scripts = lib.mapAttrs (
    _: service: lib.filterAttrs (_: text: text != "") (lib.mapAttrs (_: key: service.${key}) scripts)
  ) config.systemd.services;
  etc =
    lib.mapAttrs file (lib.filterAttrs (_: it: it.enable) config.environment.etc)
    // lib.optionalAttrs ssh.enable {
      "ssh/sshd_config" = lib.concatMapStrings (key: "HostKey ${key.path}\n") ssh.hostKeys;
    };
  rules =
    config.systemd.tmpfiles.rules
    ++ lib.concatLists (lib.concatMap ofSettings (lib.attrValues config.systemd.tmpfiles.settings));
  # The keys of NixOS's own list.
  users = lib.mapAttrs (_: user: {
    inherit (user)
      name
      uid
      group
      home
      homeMode
      createHome
      isSystemUser
      hashedPasswordFile
      ;
  }) (lib.filterAttrs (_: user: user.enable) config.users.users);
}
