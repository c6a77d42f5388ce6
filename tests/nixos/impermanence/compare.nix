# A configuration for nix-community/impermanence, evaluated by both modules: mounts and links of only one of them, and created
# paths of each. `impermanence` is its source.
{
  nixpkgs,
  impermanence,
  host,
}:
let
  lib = import (nixpkgs + "/lib");
  evaluate =
    module:
    (import (nixpkgs + "/nixos/lib/eval-config.nix") {
      system = null;
      modules = [
        module
        host
        {
          nixpkgs.hostPlatform = "x86_64-linux";
          system.stateVersion = "26.05";
          nixpkgs.overlays = (import ../nixpkgs.nix nixpkgs).overlays ++ [
            # Their scripts as texts, to look at.
            (_: prev: {
              writeShellScript =
                name: text: if lib.hasPrefix "persistence-" name then text else prev.writeShellScript name text;
            })
          ];
        }
      ];
    }).config;

  theirs = evaluate (impermanence + "/nixos.nix");
  ours = evaluate ../../../nixos-module;

  directories = map (it: {
    target = it.where;
    source = it.what;
    hidden = lib.hasInfix "x-gvfs-hide" it.options;
    trash = lib.hasInfix "x-gvfs-trash" it.options;
  }) (lib.filter (it: lib.hasInfix "bind" (it.options or "")) theirs.systemd.mounts);
  # The descriptions of their file services name links and targets.
  files = lib.concatMap (
    unit:
    let
      parts = builtins.match "Bind mount or link (.*) to (.*)" (toString unit.description);
    in
    lib.optional (parts != null) {
      source = lib.elemAt parts 0;
      target = lib.removeSuffix "'" (lib.removePrefix "'" (lib.elemAt parts 1));
    }
  ) (lib.attrValues theirs.systemd.services);
  mounts = directories ++ files;

  ourMounts = map (
    it:
    {
      inherit (it) target;
      source = it.store + it.target;
    }
    // lib.optionalAttrs (it.kind == "directory") { inherit (it) hidden trash; }
  ) ours.imp-mount.entries;
in
{
  count = lib.length mounts;
  onlyTheirs = lib.subtractLists ourMounts mounts;
  onlyOurs = lib.subtractLists mounts ourMounts;
  # One call for each directory: STORE TARGET USER GROUP MODE DEBUG.
  script = builtins.unsafeDiscardStringContext theirs.system.activationScripts.createPersistentStorageDirs.text;
  inherit (ours.imp-mount) manifest;
  refused = map (it: it.message) (lib.filter (it: !it.assertion) ours.assertions);
}
