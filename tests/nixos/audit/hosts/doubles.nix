# Bind mounts of entries, as nixos-generate-config writes them down on a running system; and one of another directory.
{
  imports = [ ../quiet.nix ];
  fileSystems =
    let
      bind = device: {
        inherit device;
        fsType = "none";
        options = [ "bind" ];
      };
    in
    {
      "/var/log" = bind "/persist/var/log";
      "/srv/data" = bind "/persist/srv/data";
      "/srv/other" = bind "/persist/elsewhere";
    };
  environment.persistence."/persist".directories = [
    "/srv/data"
    "/srv/other"
  ];
}
