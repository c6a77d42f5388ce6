# The options of a store: `environment.persistence.<name>` and `home.persistence.<name>`, and a user's part of one.
{ lib }:
let
  inherit (lib) mkOption types;
  entry = import ./entry.nix { inherit lib; };
  removed = import ./removed.nix { inherit lib; };

  # Options shared by a store and its users.
  lists =
    context:
    let
      type = entry context;
    in
    {
      directories = mkOption {
        type = type.directories;
        default = [ ];
        example = lib.literalExpression ''
          [
            "/var/log"
            "/var/lib/nixos"
            { directory = "/var/lib/colord"; user = "colord"; group = "colord"; mode = "u=rwx,g=rx,o="; }
          ]
        '';
        description = "Persistent directories: paths, or sets of the options below.";
      };
      files = mkOption {
        type = type.files;
        default = [ ];
        example = lib.literalExpression ''
          [
            "/etc/machine-id"
            "/etc/ssh/ssh_host_*"
            { file = "/etc/nix/id_rsa"; parentDirectory.mode = "u=rwx,g=,o="; }
          ]
        '';
        description = "Persistent files: paths, or sets of the options below.";
      };
      assertions = mkOption {
        type = types.listOf types.unspecified;
        default = [ ];
        internal = true;
        description = "Assertions forwarded to NixOS.";
      };
    };
in
{
  # A store. `context` is { place, user, group, home }.
  store =
    context:
    {
      name,
      config,
      options,
      ...
    }:
    let
      gone = removed {
        inherit (context) place;
        removed = {
          allowOther.text = ''
            ▹ persistence."${name}":
                As real bind mounts are now used instead of bindfs, `allowOther' is no longer needed.
          '';
          removePrefixDirectory.text = ''
            ▹ persistence."${name}":
                The use of prefix directories is deprecated and the functionality has been removed.
                If you depend on this functionality, name every path by its place on the running system.
          '';
          defaultDirectoryMethod.text = ''
            ▹ persistence."${name}":
                As real bind mounts are now used instead of bindfs, changing the default directory linking
                method is deprecated.
          '';
        };
      };
    in
    {
      options =
        lists (context // { store = config; })
        // {
          enable = mkOption {
            type = types.bool;
            default = true;
            description = "Use this store. Otherwise the store and its users have no entries.";
          };
          persistentStoragePath = mkOption {
            type = types.path;
            default = name;
            defaultText = "‹name›";
            description = "Path of the store on the running system.";
          };
          required = mkOption {
            type = types.bool;
            default = true;
            description = ''
              Stop a boot without the store in the emergency shell. Otherwise its entries are guarded, so that no file is written to memory.
            '';
          };
          hideMounts = mkOption {
            type = types.bool;
            default = false;
            example = true;
            description = "Hide the mounts from file managers.";
          };
          allowTrash = mkOption {
            type = types.bool;
            default = false;
            example = true;
            description = "Let file managers keep a trash folder on the mounts.";
          };
          enableDebugging = mkOption {
            type = types.bool;
            default = false;
            internal = true;
            description = "Accepted without effect: `imp-mount --check` reports the state of all entries.";
          };
          enableWarnings = mkOption {
            type = types.bool;
            default = true;
            description = "Warn of valid, but probably unintended settings.";
          };
        }
        // gone.options;
      config.assertions = gone.assertions config options;
    };

  # A user's part of a store. `context` is as above, with the store's options as `store`.
  user =
    context:
    { config, options, ... }:
    let
      gone = removed {
        inherit (context) place;
        removed.home.text = ''
          ▹ persistence."${context.store.persistentStoragePath}":
              The home directory is now automatically deduced, rendering this option useless.
        '';
      };
    in
    {
      options = lists context // gone.options;
      config.assertions = gone.assertions config options;
    };
}
