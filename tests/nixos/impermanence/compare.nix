# A configuration written for nix-community/impermanence, evaluated by its module and by ours: what either mounts where, and
# what only one of them does. `impermanence` is its source.
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
        }
      ];
    }).config;

  theirs =
    let
      config = evaluate (impermanence + "/nixos.nix");
      directories = map (it: {
        target = it.where;
        source = it.what;
        hidden = lib.hasInfix "x-gvfs-hide" it.options;
      }) (lib.filter (it: lib.hasInfix "bind" (it.options or "")) config.systemd.mounts);
      # Their file services say in their description what they link where.
      files = lib.concatMap (
        unit:
        let
          parts = builtins.match "Bind mount or link (.*) to (.*)" (toString unit.description);
        in
        lib.optional (parts != null) {
          source = lib.elemAt parts 0;
          target = lib.removeSuffix "'" (lib.removePrefix "'" (lib.elemAt parts 1));
        }
      ) (lib.attrValues config.systemd.services);
    in
    directories ++ files;

  ours = map (
    it:
    {
      inherit (it) target;
      source = it.store + it.target;
    }
    // lib.optionalAttrs (it.kind == "directory") { inherit (it) hidden; }
  ) (evaluate ../../nixos-module).imp-mount.entries;
in
{
  count = lib.length theirs;
  onlyTheirs = lib.subtractLists ours theirs;
  onlyOurs = lib.subtractLists theirs ours;
}
