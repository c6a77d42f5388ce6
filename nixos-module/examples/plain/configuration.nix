# The host, and what of it persists.
{ lib, pkgs, ... }:
{
  imp-mount = {
    enable = true;
    # Everything that is not named goes there; half of the memory is not too much.
    root.size = "4G";
    # Every build says what would be lost. Once it says nothing, let it fail where something would:
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
  # The virtual machine to try it in has an empty store.
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
  # A shell where a boot stops. Whoever is at the machine gets it: give a hashed password instead where that matters.
  boot.initrd.systemd.emergencyAccess = true;

  system.stateVersion = "26.05";
}
