# `home.persistence`: persistent paths in home-manager's configuration. The NixOS module mounts them.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  levels = import ./impermanence/store.nix { inherit lib; };
  inherit (config) home;
  named = lib.filterAttrs (
    _: store: lib.hasInfix home.homeDirectory store.persistentStoragePath
  ) home.persistence;
in
{
  options.home.persistence = mkOption {
    default = { };
    type = types.attrsOf (
      types.submodule (
        args@{ name, ... }:
        levels.store {
          place = ''home-manager.users.${home.username}.home.persistence."${name}"'';
          user = home.username;
          # Unknown here; the NixOS module sets the group.
          group = null;
          home = home.homeDirectory;
        } args
      )
    );
    description = "Persistent paths of this home, by store: paths are relative to the home.";
  };
  options.home._nixosModuleImported = mkOption {
    type = types.bool;
    default = false;
    internal = true;
    description = "Set by the NixOS module only.";
  };

  config.assertions = [
    # Also allows a manual import beside the NixOS module.
    {
      assertion =
        home._nixosModuleImported
        || !lib.any (store: store.enable && (store.directories != [ ] || store.files != [ ])) (
          lib.attrValues home.persistence
        );
      message = ''
        home.persistence: the NixOS module is not there to mount what is named here, so all of it would be lost.

          Import imp-mount's NixOS module in the system's configuration, and home-manager as a NixOS module. Where home-manager
          manages a home without NixOS, take the lines out, or set enable = false of each store.
      '';
    }
    {
      assertion = named == { };
      message = ''
        home.persistence: persistentStoragePath contains home directory path!
        ${lib.concatMapStringsSep "\n" (
          name: "  home-manager.users.${home.username}.home.persistence.\"${name}\""
        ) (lib.attrNames named)}

          The API has changed - the persistent storage path should no longer
          contain the path to the user's home directory, as it will be added
          automatically.
      '';
    }
  ];
}
