# The values of the example for NixOS in impermanence's documentation.
{
  imports = [ ../disks.nix ];
  services.colord.enable = true;
  environment.persistence."/persistent" = {
    enable = true;
    hideMounts = true;
    directories = [
      "/var/log"
      "/var/lib/bluetooth"
      "/var/lib/nixos"
      "/var/lib/systemd/coredump"
      "/etc/NetworkManager/system-connections"
      {
        directory = "/var/lib/colord";
        user = "colord";
        group = "colord";
        mode = "u=rwx,g=rx,o=";
      }
    ];
    files = [
      "/etc/machine-id"
      {
        file = "/var/keys/secret_file";
        parentDirectory.mode = "u=rwx,g=,o=";
      }
    ];
    users.bird = import ../home.nix;
  };
}
