# Refused settings: a swap file in memory, a store without a disk, directories over parts of the overlay on /etc.
{
  imports = [ ../common.nix ];
  swapDevices = [
    {
      device = "/var/lib/swapfile";
      size = 1024;
    }
    { device = "/persist/swapfile"; }
    { device = "/dev/vdb"; }
  ];
  boot.initrd.systemd.enable = true;
  system.etc.overlay.enable = true;
  services.userborn = {
    enable = true;
    passwordFilesLocation = "/var/lib/nixos";
  };
  services.openssh.enable = true;
  imp-mount.audit.level = "off";
  environment.persistence."/persist".directories = [
    "/etc/ssh"
    "/etc/own"
    "/var/lib/nixos"
    "/var/lib/lxc"
    {
      directory = "/var/lib/machines";
      mountOptions = [
        "suid"
        "dev"
      ];
    }
  ];
  environment.persistence."/nowhere".directories = [ "/srv" ];
}
