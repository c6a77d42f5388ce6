# All refusals and warnings of the evaluation.
{
  imports = [
    ./common.nix
    ./wrong-twice.nix
  ];
  imp-mount.root.size = "8G";
  imp-mount.auditIgnore = [ ];
  imp-mount.auditFindings = [ ];
  fileSystems."/" = {
    device = "/dev/disk/by-label/root";
    fsType = "ext4";
  };
  fileSystems."/persist" = {
    device = "/dev/disk/by-label/persist";
    fsType = "ext4";
    neededForBoot = false;
  };
  fileSystems."/mnt/nas" = {
    device = "nas:/export";
    fsType = "nfs";
  };
  system.etc.overlay.enable = true;
  system.etc.overlay.mutable = false;
  services.userborn.enable = true;
  users.users.without.isNormalUser = true;
  environment.persistence."/persist" = {
    allowOther = true;
    removePrefixDirectory = false;
    defaultDirectoryMethod = "bindfs";
    assertions = [
      {
        assertion = false;
        message = "environment.persistence: forwarded from a store";
      }
    ];
    directories = [
      "/var/twice"
      "/mnt/nas/media"
      {
        directory = "/bindfs";
        method = "bindfs";
        assertions = [
          {
            assertion = false;
            message = "environment.persistence: forwarded from an entry";
          }
        ];
      }
      {
        directory = "/stranger";
        user = "nobody-knows";
        group = "no-group";
      }
    ];
    files = [
      "/etc/ssh/ssh_host_*"
      "/etc/file"
    ];
    users.ada.home = "/home/other";
    users.stranger.directories = [ "x" ];
  };
}
