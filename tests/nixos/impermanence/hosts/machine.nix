# The values of the machine in impermanence's tests.
{
  imports = [ ../disks.nix ];
  fileSystems."/home" = {
    device = "none";
    fsType = "tmpfs";
    neededForBoot = true;
  };
  services.openssh.enable = true;
  environment.persistence.main = {
    persistentStoragePath = "/persistent";
    enableDebugging = true;
    files = [
      "/etc/machine-id"
      "/etc/ssh/ssh_host_ed25519_key"
      {
        file = "/etc/ssh/ssh_host_ed25519_key.pub";
        method = "symlink";
      }
      "/etc/ssh/ssh_host_rsa_key"
      "/etc/ssh/ssh_host_rsa_key.pub"
    ];
    directories = [
      {
        directory = "/etc/nixos";
        mode = "0700";
        user = "bird";
        group = "users";
      }
      "/var/log"
      "/var/lib/bluetooth"
      "/var/lib/nixos"
      "/var/lib/systemd/coredump"
      "/etc/NetworkManager/system-connections"
    ];
    users.bird = import ../user.nix;
  };
}
