# Options read by the host's own modules.
{ config, lib, ... }:
let
  cfg = config.mySystem;
in
{
  options.mySystem = {
    persistentFolder = lib.mkOption {
      type = lib.types.path;
      default = "/persist";
      description = "The path of the store.";
    };
    system.impermanence.enable = lib.mkEnableOption "a root that is empty at every boot";
  };

  config = lib.mkIf cfg.system.impermanence.enable {
    imp-mount = {
      enable = true;
      root.size = "8G";
      audit.level = "error";
      persist.store = cfg.persistentFolder;
    };
  };
}
