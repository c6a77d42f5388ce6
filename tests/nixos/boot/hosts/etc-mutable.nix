# A writable overlay on /etc, and entries below /etc.
{
  imports = [ ./store.nix ];
  imp-mount.enable = true;
  system.etc.overlay.enable = true;
  services.userborn.enable = true;
  users.mutableUsers = false;
  users.allowNoPasswordLogin = true;
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/etc/NetworkManager/system-connections"
    ];
    files = [
      "/etc/machine-id"
      {
        file = "/etc/secret";
        missing = "create";
        mode = "0600";
      }
    ];
  };
  specialisation.more.configuration = {
    environment.etc."added".text = "added";
    environment.persistence."/persist" = {
      directories = [ "/etc/wireguard" ];
      files = [
        {
          file = "/etc/more";
          missing = "create";
        }
      ];
    };
  };
}
