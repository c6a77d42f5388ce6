# `environment.persistence`: persistent paths in the form of nix-community/impermanence.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  levels = import ./store.nix { inherit lib; };
  inherit (config.users) users;
  accounts = import ../../accounts.nix { inherit config lib; };
in
{
  options.environment.persistence = mkOption {
    default = { };
    type = types.attrsOf (
      types.submoduleWith {
        shorthandOnlyDefinesConfig = true;
        modules = [
          (
            args@{ name, ... }:
            levels.store {
              place = ''environment.persistence."${name}"'';
              user = "root";
              group = "root";
              home = null;
            } args
          )
          (
            { name, config, ... }:
            let
              store = { inherit name config; };
            in
            {
              options.users = mkOption {
                default = { };
                type = types.attrsOf (
                  types.submodule (
                    args@{ name, ... }:
                    levels.user {
                      place = ''environment.persistence."${store.name}".users.${name}'';
                      store = store.config;
                      user = accounts.login name;
                      group = users.${name}.group or null;
                      # The home of a service's user may be a package.
                      home = toString (users.${name}.home or "/home/${name}");
                    } args
                  )
                );
                example = lib.literalExpression ''
                  {
                    ada = {
                      directories = [ "Documents" { directory = ".ssh"; mode = "0700"; } ];
                      files = [ ".screenrc" ];
                    };
                  }
                '';
                description = "Persistent paths in the homes of users: paths are relative to `users.users.<name>.home`.";
              };
            }
          )
        ];
      }
    );
    example = lib.literalExpression ''
      {
        "/persist" = {
          directories = [ "/var/log" "/var/lib/nixos" ];
          files = [ "/etc/machine-id" "/etc/ssh/ssh_host_*" ];
          users.ada.directories = [ "Documents" ];
        };
      }
    '';
    description = ''
      Persistent paths, by store. The interface extends nix-community/impermanence's.
    '';
  };
}
