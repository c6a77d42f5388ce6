# As much of home-manager's NixOS module as the shared module meets: users, each a configuration of its own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  nixos = config;
in
{
  options.home-manager.sharedModules = mkOption {
    type = types.listOf types.raw;
    default = [ ];
  };
  options.home-manager.users = mkOption {
    default = { };
    type = types.attrsOf (
      types.submoduleWith {
        specialArgs = { inherit pkgs; };
        modules = [
          (
            { name, config, ... }:
            {
              options.xdg = {
                dataHome = mkOption { default = "${config.home.homeDirectory}/.local/share"; };
                stateHome = mkOption { default = "${config.home.homeDirectory}/.local/state"; };
              };
              options.home = {
                username = mkOption { default = nixos.users.users.${name}.name; };
                homeDirectory = mkOption { default = nixos.users.users.${name}.home; };
                stateVersion = mkOption { default = nixos.system.stateVersion; };
              };
              options.assertions = mkOption { default = [ ]; };
              options.warnings = mkOption { default = [ ]; };
            }
          )
        ]
        ++ config.home-manager.sharedModules;
      }
    );
  };
  # As home-manager does.
  config.assertions = lib.concatMap (user: user.assertions) (
    lib.attrValues config.home-manager.users
  );
  config.warnings = lib.concatMap (user: user.warnings) (lib.attrValues config.home-manager.users);
}
