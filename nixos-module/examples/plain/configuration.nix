# The host and its persistent paths.
{ lib, pkgs, ... }:
{
  imp-mount = {
    enable = true;
    # Unnamed paths are on this tmpfs; half of the memory is not too much.
    root.size = "4G";
    # Every build warns of state that would be lost. Once there is no warning, make it an error:
    # audit.level = "error";
    persist = {
      store = "/persist";
      # Ids, machine-id, SSH host keys, /var/lib/systemd, known networks.
      essentials = true;
      logs = true;
      homes = true;
      services = true;
    };
  };
  # Paths of no preset, a line each:
  environment.persistence."/persist".directories = [
    "/srv"
    # { directory = "/srv/game"; user = "game"; group = "game"; mode = "0750"; }
  ];

  # /etc/shadow is made anew at every boot: passwords are files on the store.
  users.mutableUsers = false;
  users.users.ada = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    hashedPasswordFile = "/persist/secrets/ada";
  };
  # The virtual machine for a trial has an empty store.
  virtualisation.vmVariant.users.users.ada = {
    password = "try";
    hashedPasswordFile = lib.mkForce null;
  };

  networking.hostName = "host";
  networking.networkmanager.enable = true;
  services.openssh.enable = true;
  environment.systemPackages = [ pkgs.git ];

  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  # A shell when the boot stops, for everyone at the console. Where this is a risk, give a hashed password instead.
  boot.initrd.systemd.emergencyAccess = true;

  system.stateVersion = "26.05";
}
