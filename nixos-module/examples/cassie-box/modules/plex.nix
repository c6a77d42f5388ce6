# A service module that persists its own directory.
{ config, lib, ... }:
let
  cfg = config.mySystem.services.plex;
  user = "plex";
  group = "plex";
  appFolder = "/var/lib/plex";
in
{
  options.mySystem.services.plex.enable = lib.mkEnableOption "Plex";

  config = lib.mkIf cfg.enable {
    services.plex = {
      enable = true;
      inherit user group;
      dataDir = appFolder;
    };

    environment.persistence."${config.mySystem.persistentFolder}" =
      lib.mkIf config.mySystem.system.impermanence.enable
        {
          directories = [
            {
              directory = appFolder;
              inherit user group;
              mode = "750";
            }
          ];
        };
  };
}
