# cassie-box: a home media server. The disk is in disko.nix, for a new install, or in convert.nix, for the one that is there.
{ config, pkgs, ... }:
{
  imports = [
    ./modules/impermanence.nix
    ./modules/plex.nix
  ];

  mySystem = {
    persistentFolder = "/persist";
    system.impermanence.enable = true;
    services.plex.enable = true;
  };

  # What persists. Whole groups, by name:
  imp-mount.persist = {
    essentials = true;
    logs = true;
    homes = true;
    containers = true;
  };
  # ... and one by one, where a line says more than a group:
  environment.persistence.${config.mySystem.persistentFolder}.directories = [
    { directory = "/var/lib/postgresql"; user = "postgres"; group = "postgres"; mode = "0750"; }
    { directory = "/var/lib/mysql"; user = "mysql"; group = "mysql"; }
    { directory = "/var/lib/sonarr"; user = "sonarr"; group = "sonarr"; }
  ];
  # ... and what may go:
  imp-mount.auditIgnore = [
    { path = "/var/lib/fail2ban"; reason = "bans may end with a reboot"; }
  ];

  nixpkgs.config.allowUnfreePredicate = package: package.pname or "" == "plexmediaserver";
  services = {
    postgresql.enable = true;
    mysql = {
      enable = true;
      package = pkgs.mariadb;
    };
    sonarr.enable = true;
    openssh.enable = true;
    fail2ban.enable = true;
  };
  virtualisation.podman.enable = true;
  virtualisation.oci-containers.containers.homepage = {
    image = "ghcr.io/gethomepage/homepage:latest";
    volumes = [ "/srv/homepage:/app/config" ];
  };

  # Films and series are on a disk of their own: they persist anyway.
  fileSystems."/mnt/data" = {
    device = "/dev/disk/by-label/data";
    fsType = "ext4";
  };

  users = {
    mutableUsers = false;
    users.cassie = {
      isNormalUser = true;
      extraGroups = [ "wheel" ];
      hashedPasswordFile = "/persist/secrets/cassie.password";
      openssh.authorizedKeys.keys = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA cassie"
      ];
    };
  };

  networking.hostName = "cassie-box";
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  system.stateVersion = "26.05";
  nixpkgs.hostPlatform = "x86_64-linux";
}
