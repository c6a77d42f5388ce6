# A read-only overlay on /etc, with userborn.
{
  imports = [
    ./common.nix
    ./store.nix
  ];
  imp-mount.enable = true;
  system.etc.overlay.enable = true;
  system.etc.overlay.mutable = false;
  services.userborn.enable = true;
  environment.persistence."/persist" = {
    directories = [
      "/nix"
      "/var/lib/nixos"
      "/etc/NetworkManager/system-connections"
    ];
    files = [
      "/etc/machine-id"
      "/etc/ssh/ssh_host_ed25519_key"
    ];
  };
}
